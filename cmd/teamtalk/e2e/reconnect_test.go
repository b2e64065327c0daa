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

// outage is how long a server is away in TestReconnection: as long as a restart on a busy machine.
const outage = 2 * time.Second

// TestReconnection restarts each server and prints the time from its "ready" until clients are
// served again: a client that stays logged in has a message acked that it sent during the outage,
// and a login succeeds. On an idle machine each is below 1.0 s. The test insists on much less, so
// that it does not depend on the machine:
//
//	go test ./cmd/teamtalk/e2e -run TestReconnection -v
func TestReconnection(t *testing.T) {
	t.Parallel()
	sys := deploySeparate(t, settings{users: 3, flags: []string{"--msg.rate", "0"}})
	acks := make(chan uint64, 64)
	c, err := client.Open(bounded(t), client.Options{
		Credentials: tcp.Credentials{User: "u00001", Password: "pw"}, MsgServer: sys.msgAddr[0],
		OnEvent: func(e client.Event) {
			if e, ok := e.(client.Acked); ok {
				acks <- e.ID
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	to := client.Peer{ID: c.UserID() + 1}
	login := func() bool {
		conn, err := tcp.Dial(bounded(t), sys.msgAddr[0], tcp.Options{})
		if err != nil {
			return false
		}
		defer conn.Close()
		_, err = conn.Login(bounded(t), tcp.Credentials{User: "u00003", Password: "pw"})
		return err == nil
	}
	listed := func() bool {
		_, err := loginserver.Discover(bounded(t), http.DefaultClient, sys.url())
		return err == nil
	}
	for _, s := range sys.servers {
		if s.name == "msg2" {
			continue
		}
		for _, end := range []struct {
			how string
			do  func(*server)
		}{{"stopped", (*server).stop}, {"killed", (*server).kill}} {
			end.do(s)
			id, err := c.Send(to, s.name+" "+end.how)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(outage)
			s.start()
			ready := time.Now()
			acked := make(chan time.Duration, 1)
			go func() {
				for got := range acks {
					if got == id {
						acked <- time.Since(ready)
						return
					}
				}
			}()
			var at [2]time.Duration
			for i, served := range []func() bool{login, listed} {
				until(t, "clients to be served after "+s.name, served)
				at[i] = time.Since(ready)
			}
			var ack time.Duration
			select {
			case ack = <-acked:
			case <-time.After(patience):
				t.Fatalf("%s %s: no ack for a message of the outage", s.name, end.how)
			}
			t.Logf("%-8s %-8s login %4d ms, listed %4d ms, message %4d ms after ready",
				s.name, end.how, at[0].Milliseconds(), at[1].Milliseconds(), ack.Milliseconds())
		}
	}
}
