package httpapi

import (
	_ "embed"
	"net/http"
)

// description is the API in OpenAPI's terms; a test holds it against the calls there are.
//
//go:embed openapi.json
var description []byte

func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(description) // the caller is gone
}
