//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/persona"
)

// TestStockUploads: with msfs.tickets optional, every stock client sends and shows pictures as
// without tickets. With required, its upload is refused in a form that it reads, and it continues:
// it stays logged in, sends texts, and shows the pictures of clients that have tickets.
func TestStockUploads(t *testing.T) {
	t.Parallel()
	rows := persona.All()
	for _, tickets := range []string{"optional", "required"} {
		t.Run(tickets, func(t *testing.T) {
			t.Parallel()
			sys := deployAllInOne(t, settings{users: 1 + len(rows), flags: []string{
				"--msfs.tickets", tickets, "--msfs.ticket-key", strings.Repeat("k", 32)}})
			ours := newTalker(t, "u00001", where{login: sys.url()})
			photo := picture(t)
			shared, err := ours.Upload(bounded(t), "", "a.jpg", photo)
			if err != nil {
				t.Fatal(err)
			}
			var all []*persona.Client
			for i, row := range rows {
				all = append(all, startPersona(t, sys, row, persona.Options{
					User: fmt.Sprintf("u%05d", 2+i), Addr: sys.msgAddr[0]}))
			}
			logIn(t, all...)
			for i, c := range all {
				next := all[(i+1)%len(all)]
				url, err := c.Upload("photo_400x300.jpg", photo)
				switch {
				case tickets == "optional" && err != nil:
					t.Errorf("%s: %v", c.Name(), err)
				case tickets == "required" && (err == nil ||
					!strings.Contains(err.Error(), "需要上传凭证")):
					t.Errorf("%s: uploaded %q, %v", c.Name(), url, err)
				case tickets == "required":
					url = shared
				}
				if got, err := next.Picture(url); err != nil || !bytes.Equal(got, photo) {
					t.Errorf("%s shows %q: %d bytes, %v", next.Name(), url, len(got), err)
				}
				c.Text(user(next), []byte("text of "+c.Name()))
				until(t, "the text of "+c.Name(),
					func() bool { return len(next.Shown(user(c))) == 1 })
			}
			for _, c := range all {
				if f := c.Faults(); len(f) > 0 || c.State() != persona.Online ||
					c.Stats().Connections != 1 {
					t.Errorf("%s: state %d, %+v, faults %q", c.Name(), c.State(), c.Stats(), f)
				}
			}
		})
	}
}
