package adminapi

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestOpenAPI: the description, which is served without a token, has a call for each method of
// the interfaces, each with the parameters of its path, an answer, and the form of errors.
func TestOpenAPI(t *testing.T) {
	r := newRig(t, nil)
	_, text := r.call("", "GET", "/openapi.json", "")
	type operation struct {
		OperationID string `json:"operationId"`
		Summary     string
		Role        string `json:"x-role"`
		Parameters  []struct{ Name, In string }
		RequestBody *struct{ Content map[string]json.RawMessage }
		Responses   map[string]json.RawMessage
	}
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]operation
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil || doc.OpenAPI == "" {
		t.Fatal(err, doc.OpenAPI)
	}
	ids := map[string]bool{}
	for path, ops := range doc.Paths {
		for method, op := range ops {
			in := map[string]bool{}
			for _, p := range op.Parameters {
				in[p.In+" "+p.Name] = true
			}
			for part := range strings.SplitSeq(path, "/") {
				if name, ok := strings.CutPrefix(part, "{"); ok &&
					!in["path "+strings.TrimSuffix(name, "}")] {
					t.Errorf("%s %s: no parameter %s", method, path, part)
				}
			}
			if ids[op.OperationID] || op.Summary == "" || op.Responses["200"] == nil ||
				op.Responses["default"] == nil || method == "get" && op.RequestBody != nil ||
				method != "get" && op.Role != "admin" {
				t.Errorf("%s %s: %+v", method, path, op)
			}
			ids[op.OperationID] = true
		}
	}
	if n := methods(t); len(ids) != n {
		t.Errorf("%d calls are described, the interfaces have %d", len(ids), n)
	}
	for _, part := range []string{`"enum": [`, `"locked_until"`, `"text/csv"`, `"phone": {`,
		`"ids"`, `"explode": false`} {
		if !strings.Contains(text, part) {
			t.Errorf("the description lacks %s", part)
		}
	}
}

// methods counts the methods of Directory, Cluster and Process.
func methods(t *testing.T) (n int) {
	file, err := parser.ParseFile(token.NewFileSet(), "types.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(node ast.Node) bool {
		if i, ok := node.(*ast.InterfaceType); ok {
			n += len(i.Methods.List)
		}
		return true
	})
	return n
}

// everything has a field of each form.
type everything struct {
	User  string   `path:"user" json:"-"`
	After uint32   `query:"after" json:"-"`
	Limit int      `query:"limit" json:"-"`
	Dry   bool     `query:"dry" json:"-"`
	IDs   []uint32 `query:"ids" json:"-"`
	Nick  *string  `json:"nick"`
	List  []string `json:"list"`
}

// FuzzDecode decodes arbitrary queries and bodies. An accepted list is bounded.
func FuzzDecode(f *testing.F) {
	f.Add("after=1&limit=-2&dry=true&ids=1,2", `{"nick":"x","list":["a"]}`, "application/json")
	f.Add("ids=,&x=%zz", `{"nick":null}{}`, "text/csv")
	f.Add("", "null", "application/json; charset=utf-8")
	f.Fuzz(func(t *testing.T, query, body, media string) {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", media)
		r.SetPathValue("user", "u")
		var q everything
		err := decode(httptest.NewRecorder(), r, &q, 1000)
		switch {
		case err != nil && failed(err).status != http.StatusBadRequest:
			t.Errorf("%v", err)
		case err == nil && (q.User != "u" || len(q.IDs) > maxListed || len(body) > 1000):
			t.Errorf("accepted %q %q: %+v", query, body, q)
		}
	})
}
