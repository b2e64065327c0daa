package msfs

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"teamtalk/core/ticket"
)

var ticketKey = bytes.Repeat([]byte{'k'}, ticket.MinKey)

// noon is the time of the servers in tests of tickets.
var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// newTicketRig starts a server that takes tickets.
func newTicketRig(t *testing.T, required bool, change func(o *Options)) *rig {
	return newRig(t, func(o *Options) {
		o.Tickets = Tickets{Key: ticketKey, Required: required}
		o.Now = func() time.Time { return noon }
		if change != nil {
			change(o)
		}
	})
}

// token returns a ticket of a user.
func token(user uint32) string { return ticket.New(user, 0, noon).Sign(ticketKey) }

// sendWith uploads a file of n bytes with a ticket in the header.
func (r *rig) sendWith(c *http.Client, n int, token string) uploaded {
	r.Helper()
	body, kind := form(r.T, "file", "a.jpg", bytes.Repeat([]byte{'x'}, n))
	req := request(r.url, kind, body, "")
	req.Header.Set(ticket.Header, token)
	rsp, err := c.Do(req)
	return r.answerOf(rsp, err)
}

// TestTickets: an upload with a valid ticket is stored. Others are stored unless tickets are
// required, and downloads need none.
func TestTickets(t *testing.T) {
	old := ticket.New(7, 0, noon.Add(-ticket.Life-ticket.Skew-time.Second))
	tokens := map[string]string{
		"": "no_ticket", "x": "bad_ticket", token(7) + "A": "bad_ticket", token(7): "ok",
		token(ticket.Server):      "ok",
		old.Sign(ticketKey):       "bad_ticket",
		old.Sign(ticketKey[1:]):   "bad_ticket",
		strings.ToUpper(token(7)): "bad_ticket",
	}
	for _, required := range []bool{false, true} {
		var log logged
		r := newTicketRig(t, required, func(o *Options) {
			o.Log = slog.New(slog.NewTextHandler(&log, nil))
		})
		for token, want := range tokens {
			code := 0
			if required && want != "ok" {
				code = 1
			}
			before := r.results(want)
			inHeader := r.sendWith(http.DefaultClient, 1, token)
			body, kind := form(t, "file", "a.jpg", []byte("x"))
			inURL := r.postTo("/?ticket="+url.QueryEscape(token), body, kind)
			for where, u := range map[string]uploaded{"header": inHeader, "URL": inURL} {
				if u.Code != code || (u.URL == "") != (code != 0) || u.Text == "" {
					t.Errorf("required: %v, ticket %q in the %s: %+v", required, token, where, u)
				}
				if rsp, _ := r.get("/" + u.Path); code == 0 && rsp.StatusCode != 200 {
					t.Errorf("download: %d", rsp.StatusCode)
				}
			}
			if n := r.results(want) - before; code != 0 && n != 2 {
				t.Errorf("%v refusals counted as %s", n, want)
			}
		}
		// The two warnings do not hide each other, whichever upload came first.
		if s := log.String(); !strings.Contains(s, "msfs.ticket_key") ||
			strings.Contains(s, "msfs.tickets") != required ||
			strings.Contains(s, token(7)[:20]) {
			t.Errorf("log: %s", s)
		}
	}
}

// TestTicketsAreIgnored: without a key, an upload with an invalid ticket is one without.
func TestTicketsAreIgnored(t *testing.T) {
	r := newRig(t, nil)
	if u := r.sendWith(http.DefaultClient, 1, "x"); u.Code != 0 {
		t.Errorf("%+v", u)
	}
}

// TestAbuseTicketBudget: the budget of the user counts, from all addresses together, and not
// that of the address. Servers have no budget.
func TestAbuseTicketBudget(t *testing.T) {
	r := newTicketRig(t, false, func(o *Options) { o.Budget = slowBudget })
	one, other := from(t, "127.0.0.1"), from(t, "127.0.0.2")
	for i, c := range []struct {
		client *http.Client
		token  string
		code   int
	}{
		{one, "", 0}, {one, "", 9}, {one, "x", 9},
		{one, token(7), 0}, {one, token(7), 9}, {other, token(7), 9},
		{other, token(8), 0}, {one, token(8), 9},
		{other, "", 0},
		{one, token(ticket.Server), 0}, {one, token(ticket.Server), 0},
	} {
		if u := r.sendWith(c.client, 600<<10, c.token); u.Code != c.code {
			t.Errorf("upload %d: %+v, want code %d", i, u, c.code)
		}
	}
}

// TestTicketBoundsTheSize: a file is not larger than its ticket says, nor than MaxSize.
func TestTicketBoundsTheSize(t *testing.T) {
	r := newTicketRig(t, true, nil)
	for _, c := range []struct {
		bound uint32
		size  int
		code  int
	}{
		{100 << 10, 100 << 10, 0}, {100 << 10, 100<<10 + 1, 1}, {100 << 10, 300 << 10, 1},
		{2 << 20, 1 << 20, 0}, {2 << 20, 1<<20 + 1, 1},
	} {
		token := ticket.New(7, c.bound, noon).Sign(ticketKey)
		if u := r.sendWith(http.DefaultClient, c.size, token); u.Code != c.code {
			t.Errorf("%d bytes with a ticket for %d: %+v", c.size, c.bound, u)
		}
	}
}
