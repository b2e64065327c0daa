package client

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"teamtalk/core/im"
	"teamtalk/core/ticket"
)

// TestUpload: a file reaches the small file server, with a ticket if the server gives them.
func TestUpload(t *testing.T) {
	var got []byte
	var token string
	answer := `{"error_code":0,"path":"g0/x.jpg"}`
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token = r.Header.Get(ticket.Header)
		if part, _, err := r.FormFile("file"); err == nil {
			got, _ = io.ReadAll(part)
		}
		io.WriteString(w, answer)
	}))
	defer files.Close()
	s := newServer(t)
	for _, given := range []string{"", "T"} {
		s.Ticket(given)
		a := open(t, s, "alice", nil)
		data := bytes.Repeat([]byte{'x'}, 100)
		url, err := a.Upload(t.Context(), files.URL, "a.jpg", data)
		if err != nil || url != files.URL+"/g0/x.jpg" || !bytes.Equal(got, data) || token != given {
			t.Errorf("URL %q, %v, %d bytes, ticket %q, want %q", url, err, len(got), token, given)
		}
	}
	answer = `{"error_code":1,"error_msg":"no"}`
	a := open(t, s, "alice", nil)
	if _, err := a.Upload(t.Context(), files.URL, "a.jpg", []byte("x")); im.KindOf(err) !=
		im.Unavailable {
		t.Errorf("a refused upload: %v", err)
	}
	if _, err := a.Upload(t.Context(), "files", "a.jpg", []byte("x")); im.KindOf(err) !=
		im.Invalid {
		t.Errorf("a server without a scheme: %v", err)
	}
}

// TestUploadAsksTheLoginServer: the login server names the small file server, or none.
func TestUploadAsksTheLoginServer(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", func(o *Options) { o.Server = s.HTTP() })
	if _, err := a.Upload(t.Context(), "", "a.jpg", []byte("x")); im.KindOf(err) !=
		im.Unavailable {
		t.Errorf("%v", err)
	}
}
