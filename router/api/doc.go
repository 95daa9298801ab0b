// Package api holds the JSON documents of Stockade's public HTTP API, and
// nothing else: the server encodes them and a client decodes them.
//
// Quantities are whole units. A pointer or a zero value with omitzero marks
// what may be absent. The types work with encoding/json and with its second
// version. They carry no behaviour beyond the format of times, so they are safe
// to copy.
package api
