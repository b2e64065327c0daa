//go:build linux

package e2e

import (
	"bytes"
	"strings"
	"testing"

	"teamtalk/core/client"
	"teamtalk/core/im"
)

// TestUploadTickets: where tickets are required, a client that is logged in uploads a picture
// and sends its URL. A client without a ticket is refused, and can fetch the picture.
func TestUploadTickets(t *testing.T) {
	t.Parallel()
	forEachShape(t, settings{users: 2, small: true, flags: []string{"--msfs.tickets", "required",
		"--msfs.ticket-key", strings.Repeat("k", 32)}}, func(t *testing.T, sys *deployment) {
		a := newTalker(t, "u00001", where{login: sys.url()})
		b := newTalker(t, "u00002", where{login: sys.url()})
		data := picture(t)
		if stock := upload(t, "http://"+sys.files+"/", "a.jpg", data); stock.Code != 1 ||
			stock.Text == "" || stock.URL != "" {
			t.Errorf("an upload without a ticket: %+v", stock)
		}
		url, err := a.Upload(bounded(t), "", "a.jpg", data)
		if err != nil {
			t.Fatal(err)
		}
		text := "&$#@~^@[{:" + url + ":}]&$~@#@" // as clients write pictures
		if _, err := a.Send(client.Peer{ID: b.UserID()}, text); err != nil {
			t.Fatal(err)
		}
		var got []im.Message
		if !eventually(func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			got = b.got
			return len(got) > 0
		}) {
			t.Fatal("the text did not arrive")
		}
		if shown, err := b.Text(got[0]); err != nil || shown != text {
			t.Errorf("the text is %q, %v", shown, err)
		}
		if kept := fetch(t, url); !bytes.Equal(kept, data) {
			t.Errorf("fetched %d bytes, want %d", len(kept), len(data))
		}
	})
}
