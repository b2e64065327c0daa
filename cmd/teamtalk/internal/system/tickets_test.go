package system

import (
	"bytes"
	"strings"
	"testing"

	"teamtalk/cmd/teamtalk/internal/system/media"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/ticket"
)

// TestSoundsWithTickets: a db_proxy keeps its sounds on a small file server that requires
// tickets, because it signs for itself. With another key the server refuses them.
func TestSoundsWithTickets(t *testing.T) {
	s, err := start(t.Context(), testOptions(t, map[string]string{"msfs.tickets": "required",
		"msfs.ticket_key": strings.Repeat("k", ticket.MinKey), "msfs.min_free": "0B"}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	cfg := *s.cfg
	cfg.DBProxy.MSFS = s.msfs.url // as in another process
	for _, key := range []string{strings.Repeat("k", ticket.MinKey), "", "another"} {
		var held stops.Stack
		other := &media.Files{Config: &cfg, Stops: &held, Log: s.log}
		if key != "" {
			other.TicketKey = []byte(key)
		}
		sounds, err := other.Sounds()
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := held.Run(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		url, err := sounds.Put(t.Context(), "x.amr", []byte("sound"))
		if good := len(key) == ticket.MinKey; good != (err == nil) {
			t.Errorf("a sound with the key %q: %v", key, err)
		} else if !good {
			continue
		}
		if data, err := sounds.Get(t.Context(), url); err != nil || string(data) != "sound" {
			t.Errorf("%q, %v", data, err)
		}
	}
}

// TestTicketKey: a process makes a key when tickets are on, and no key is set.
func TestTicketKey(t *testing.T) {
	for _, x := range []struct {
		set  map[string]string
		made bool
		want string
	}{
		{nil, false, ""},
		{map[string]string{"msfs.ticket_key": strings.Repeat("k", 32)}, false, ""},
		{map[string]string{"msfs.tickets": "optional"}, true, ""},
		{map[string]string{"msfs.tickets": "optional",
			"msfs.ticket_key": strings.Repeat("k", 32)}, false, strings.Repeat("k", 32)},
	} {
		cfg := testOptions(t, x.set).Config
		a, b := newTicketKey(cfg), newTicketKey(cfg)
		if x.made && (len(a) < ticket.MinKey || bytes.Equal(a, b)) {
			t.Errorf("%v: made the keys %x and %x", x.set, a, b)
		}
		if !x.made && string(a) != x.want {
			t.Errorf("%v: key %q, want %q", x.set, a, x.want)
		}
	}
}
