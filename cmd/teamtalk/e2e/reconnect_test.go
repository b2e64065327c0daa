//go:build linux

package e2e

import (
	"net/http"
	"testing"
	"time"

	"teamtalk/core/client"
	"teamtalk/core/client/loginserver"
	"teamtalk/core/client/tcp"
)

// outage is the time that a server is away in TestReconnection, that of a restart on a
// busy machine.
const outage = 2 * time.Second

// TestReconnection restarts each server and prints the time from its "ready" until it
// serves clients again: a client that stays logged in receives the ack of a message that
// it sent during the outage, and a login succeeds. On an idle machine each is below 1.0
// s. The limit of the test is much larger, so that it does not depend on the machine:
//
//	go test ./cmd/teamtalk/e2e -run TestReconnection -v
func TestReconnection(t *testing.T) {
	t.Parallel()
	sys := deploySeparate(t, settings{users: 3, races: true, flags: []string{"--msg.rate", "0"}})
	r := &reconnection{t: t, sys: sys, acks: make(chan uint64, 64)}
	var err error
	r.c, err = client.Open(bounded(t), client.Options{
		Credentials: tcp.Credentials{User: "u00001", Password: "pw"},
		MsgServer:   sys.msgAddr[0],
		OnEvent: func(e client.Event) {
			if e, ok := e.(client.Acked); ok {
				r.acks <- e.ID
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.c.Close() })
	for _, s := range sys.servers {
		if s.name == "msg2" {
			continue
		}
		r.measure(s, "stopped", (*server).stop)
		r.measure(s, "killed", (*server).kill)
	}
}

// reconnection is a client that stays logged in during the outages.
type reconnection struct {
	t    *testing.T
	sys  *deployment
	c    *client.Client
	acks chan uint64 // the client's numbers of acked messages
}

// measure ends a server and starts it after the outage. It logs the times until clients
// are served.
func (r *reconnection) measure(s *server, how string, end func(*server)) {
	r.t.Helper()
	end(s)
	id, err := r.c.Send(client.Peer{ID: r.c.UserID() + 1}, s.name+" "+how)
	if err != nil {
		r.t.Fatal(err)
	}
	time.Sleep(outage)
	s.start()
	ready := time.Now()
	acked := make(chan time.Duration, 1)
	go func() {
		for got := range r.acks {
			if got == id {
				acked <- time.Since(ready)
				return
			}
		}
	}()
	until(r.t, "a login after the start of "+s.name, r.login)
	login := time.Since(ready)
	until(r.t, "an answer of the login server after the start of "+s.name, r.listed)
	listed := time.Since(ready)
	select {
	case ack := <-acked:
		r.t.Logf("%-8s %-8s login %4d ms, listed %4d ms, message %4d ms after ready",
			s.name, how, login.Milliseconds(), listed.Milliseconds(), ack.Milliseconds())
	case <-time.After(patience):
		r.t.Fatalf("%s %s: no ack for a message of the outage", s.name, how)
	}
}

// login reports whether another user can log in.
func (r *reconnection) login() bool {
	conn, err := tcp.Dial(bounded(r.t), r.sys.msgAddr[0], tcp.Options{})
	if err != nil {
		return false
	}
	defer conn.Close()
	_, err = conn.Login(bounded(r.t), tcp.Credentials{User: "u00003", Password: "pw"})
	return err == nil
}

// listed reports whether the login server names a message server.
func (r *reconnection) listed() bool {
	_, err := loginserver.Discover(bounded(r.t), http.DefaultClient, r.sys.url())
	return err == nil
}
