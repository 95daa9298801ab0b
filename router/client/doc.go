// Package client is the Go client of Stockade's selling API.
//
// A Client is made once and shared by everything in a process:
//
//	c, err := client.New(client.Config{Nodes: []string{"10.0.0.1:8400", "10.0.0.2:8400"}})
//	...
//	r, err := c.Reserve(ctx, orderID, api.ReserveRequest{SKU: "demo", Quantity: 1})
//	switch {
//	case errors.Is(err, client.InsufficientStock): // sold out: a business answer
//	case errors.Is(err, client.ErrUnknown): // ask again later, with the same key
//	}
//
// # Retries
//
// A call keeps the API's contract by itself. What was refused for a reason of the
// business ends it at once. What was not done for now (429, 503, a connection that
// could not be made) is sent again after the pause that the server asks for. When the
// outcome is unknown (504, a connection that broke) the same request is sent again
// with the same key until an answer stands. All this goes on until the call's context
// ends, or Config.Timeout when that has no deadline, with pauses that grow and are
// drawn at random, and within a budget that keeps retries from becoming the load.
//
// # Batches
//
// Calls that are made at the same time share requests: what arrives while others are
// on their way forms the next batch, so an idle client adds no delay and a busy one
// sends few requests. Each item of a batch is answered on its own.
//
// # Nodes
//
// The configured addresses are where a client begins. Unless Config.FixedNodes says
// otherwise it asks them which nodes there are and uses those that answer.
package client
