package httpapi

import (
	_ "embed"
	"net/http"
)

// description is the API in OpenAPI's form. A test compares it with the calls.
//
//go:embed openapi.json
var description []byte

func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(description) // an error means that the caller disconnected
}
