package client_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stockade/router/api"
	"stockade/router/client"
)

// A call makes a reservation, and another one sells it. The key is the order's own, so
// that the order can be sent again, by another process too.
func Example() {
	shop := newShop(map[string]int64{"demo": 2})
	defer shop.Close()

	c, err := client.New(client.Config{Nodes: []string{shop.URL}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	ctx := context.Background()
	r, err := c.Reserve(ctx, "order-4711", api.ReserveRequest{SKU: "demo", Quantity: 2, BuyerID: "ada", TTLSeconds: 300})
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err = c.Confirm(ctx, r.ID)
	fmt.Println(r.Status, err)
	// Output: confirmed <nil>
}

// What a caller has to decide about.
func ExampleClient_Reserve() {
	shop := newShop(map[string]int64{"demo": 1})
	defer shop.Close()
	c, err := client.New(client.Config{Nodes: []string{shop.URL}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err = c.Reserve(ctx, "order-4712", api.ReserveRequest{SKU: "demo", Quantity: 3})
	var e *client.Error
	switch {
	case err == nil:
		fmt.Println("reserved")
	case errors.Is(err, client.InsufficientStock) && errors.As(err, &e):
		fmt.Printf("only %d left\n", *e.Problem.Available)
	case errors.Is(err, client.ErrUnknown):
		fmt.Println("ask again later, with the key order-4712")
	default:
		fmt.Println(err)
	}
	// Output: only 1 left
}

// Many reservations at once share requests.
func ExampleClient_ReserveAll() {
	shop := newShop(map[string]int64{"demo": 2})
	defer shop.Close()
	c, err := client.New(client.Config{Nodes: []string{shop.URL}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	one := api.ReserveRequest{SKU: "demo", Quantity: 1}
	sold := 0
	for _, r := range c.ReserveAll(context.Background(), []api.ReserveBatchItem{
		{IdempotencyKey: "a", ReserveRequest: one}, {IdempotencyKey: "b", ReserveRequest: one}, {IdempotencyKey: "c", ReserveRequest: one},
	}) {
		if r.Err == nil {
			sold++
		}
	}
	fmt.Println(sold, "of 3")
	// Output: 2 of 3
}
