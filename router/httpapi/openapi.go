package httpapi

import (
	_ "embed"
	"net/http"
)

// openAPIDocument describes both ports. It is written by hand; tests hold the
// routes and live answers against it.
//
//go:embed openapi.json
var openAPIDocument []byte

// OpenAPI gives the OpenAPI 3.1 document of both ports. The caller must not
// change it.
func OpenAPI() []byte { return openAPIDocument }

// openAPI is GET /openapi.json.
func openAPI(c *call) error {
	if err := c.faults(); err != nil {
		return err
	}
	c.out = append(c.out[:0], openAPIDocument...)
	c.write(http.StatusOK, jsonHeader)
	return nil
}
