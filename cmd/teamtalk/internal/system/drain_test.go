package system

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"teamtalk/core/config"
	"teamtalk/core/pdu"
	"teamtalk/core/registry"
	"teamtalk/proto/pb"
	"teamtalk/sql/dbtest"
)

// connect opens a connection to the clients' port of a message server, which must serve it.
func connect(t *testing.T, s *system) net.Conn {
	t.Helper()
	c, err := tryConnect(t, s)
	if err != nil {
		t.Fatalf("the connection is not served: %v", err)
	}
	return c
}

// tryConnect opens a connection to the clients' port of a message server. The error says why it is
// not served.
func tryConnect(t *testing.T, s *system) (net.Conn, error) {
	t.Helper()
	for _, p := range s.ports.List() {
		if p.Name == "clients" {
			c, err := net.Dial("tcp", p.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			frame := pdu.AppendHeader(nil, pb.CmdHeartBeat, 7)
			if _, err = c.Write(frame); err == nil {
				_, err = io.ReadFull(c, frame)
			}
			return c, err
		}
	}
	t.Fatal("no port for clients")
	return nil, nil
}

// closed reports whether the server closes a connection within d.
func closed(t *testing.T, c net.Conn, d time.Duration) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
	_, err := io.ReadAll(c)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// drains returns the state of each server of a process, as another one reads it.
func drains(t *testing.T, s *system) string {
	t.Helper()
	list, err := s.registry.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range list {
		text := e.Key().String()
		if e.Draining {
			text += " drains"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

// TestDrainByOrder orders the message server and the db_proxy of a process to drain, and to serve
// again. Connections end, new ones are closed, and other servers see the state.
func TestDrainByOrder(t *testing.T) {
	redis := dbtest.Redis(t)
	s := registered(t, redis, "a", map[string]string{"roles": "login,msg,route,dbproxy",
		"msg.release": "100ms", "registry.renew": "200ms", "msg.login_deadline": "1h"})
	eventually(t, "the registration", func() bool { return s.registry.Epoch() > 0 })
	const serves = "dbproxy/a, login/a, msg/a, route/a"
	const drain = "dbproxy/a drains, login/a, msg/a drains, route/a"
	before := connect(t, s)
	orders := []registry.Key{{Role: "msg", Name: "a"}, {Role: "dbproxy", Name: "a"}}
	if err := s.registry.Order(t.Context(), orders, true); err != nil {
		t.Fatal(err)
	}
	if !closed(t, before, time.Minute) {
		t.Error("the connection stays")
	}
	eventually(t, "the state to be known", func() bool { return drains(t, s) == drain })
	if _, err := tryConnect(t, s); err == nil {
		t.Error("a new connection is served")
	}
	if err := s.registry.Order(t.Context(), orders, false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the order", func() bool { return drains(t, s) == serves })
	connect(t, s)
}

// TestDrainTellsLoginsFirst orders a message server to drain whose login server reads the registry
// every 20 s. Until then it sends clients here, and these are served.
func TestDrainTellsLoginsFirst(t *testing.T) {
	redis := dbtest.Redis(t)
	set := map[string]string{"registry.poll": "20s", "registry.renew": "200ms",
		"registry.lease": "60s", "msg.login_deadline": "1h", "msg.release": "0s"}
	roles := func(list string) map[string]string {
		all := maps.Clone(set)
		all["roles"] = list
		return all
	}
	l := registered(t, redis, "l", roles("login"))
	eventually(t, "the login server", func() bool { return l.registry.Epoch() > 0 })
	for name, list := range map[string]string{"a": "msg,route,dbproxy",
		"b": "login,msg,route,dbproxy"} {
		s := registered(t, redis, name, roles(list))
		eventually(t, "the registration", func() bool {
			return s.registry.Epoch() > 0 && s.registry.View().Count(config.RoleLogin) > 0
		})
		before := connect(t, s)
		order := []registry.Key{{Role: "msg", Name: name}}
		if err := s.registry.Order(t.Context(), order, true); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the state", func() bool {
			return strings.Contains(drains(t, s), "msg/"+name+" drains")
		})
		connect(t, s)
		if closed(t, before, 300*time.Millisecond) {
			t.Errorf("%s: a connection was ended before the login server knew", name)
		}
		now, cancel := context.WithCancel(t.Context())
		cancel()
		_ = s.Stop(now) // it need not wait for the login server
	}
}

// TestStopDrains stops a message server while another one is registered. It says so in the
// registry, accepts no connection, and ends those that it has over a time.
func TestStopDrains(t *testing.T) {
	redis := dbtest.Redis(t)
	roles := map[string]string{"roles": "login,msg,route,dbproxy", "msg.release": "2s",
		"registry.renew": "5s", "msg.login_deadline": "1h"}
	a, b := registered(t, redis, "a", roles), registered(t, redis, "b", roles)
	eventually(t, "both to be known", func() bool {
		return a.registry.View().Count(config.RoleMsg) == 2 &&
			b.registry.View().Count(config.RoleMsg) == 2
	})
	conn := connect(t, a)
	began := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- a.Stop(t.Context()) }()
	eventually(t, "the state to be known", func() bool {
		return strings.Contains(drains(t, b), "msg/a drains") || len(stopped) > 0
	})
	if !closed(t, conn, time.Minute) {
		t.Error("the connection stays")
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("the connections ended within %v", took)
	}
	eventually(t, "the end of the registration", func() bool {
		return drains(t, b) == "dbproxy/b, login/b, msg/b, route/b"
	})
	began = time.Now()
	if err := b.Stop(t.Context()); err != nil { // the last one
		t.Error(err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("the last one stopped after %v", took)
	}
}

// TestDrainLog: the log has a line for each step of a drain by order, and of a stop.
func TestDrainLog(t *testing.T) {
	redis := dbtest.Redis(t)
	log := &logged{}
	opt := testOptions(t, map[string]string{"registry.enabled": "true", "node.name": "a",
		"registry.redis": "redis://" + redis.Addr(), "registry.poll": "100ms",
		"registry.renew": "200ms", "registry.lease": "20s", "msg.release": "200ms",
		"roles": "msg,route,dbproxy"})
	opt.Log = slog.New(slog.NewTextHandler(log, nil))
	s, err := start(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the registration", func() bool { return s.registry.Epoch() > 0 })
	step := func(lines ...string) {
		for _, line := range lines {
			log.await(t, "a", line)
		}
	}
	order := []registry.Key{{Role: "msg", Name: "a"}}
	if err := s.registry.Order(t.Context(), order, true); err != nil {
		t.Fatal(err)
	}
	step(`msg="an operator has ordered roles to drain" roles=[msg]`,
		`msg="ending the connections of clients" role=msg users=0 over=200ms`,
		`msg="no client is left" role=msg`)
	if err := s.registry.Order(t.Context(), order, false); err != nil {
		t.Fatal(err)
	}
	step(`msg="an operator has ordered all roles to serve"`)
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	step(`msg="ending the connections of clients" role=msg users=0 over=0s`)
}
