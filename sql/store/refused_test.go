package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/google/uuid"

	"teamtalk/core/im"
	"teamtalk/sql/store/outbox"
)

// TestRedisRefusesConnections uses a Redis server that answers every new connection with an
// error: its password was changed. Nothing may look as if it had been done: a
// count that seems to be applied leaves the outbox, and an answer without counts says that
// nothing is unread.
func TestRedisRefusesConnections(t *testing.T) {
	t.Parallel()
	for name, cluster := range map[string]bool{"server": false, "cluster": true} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			if cluster {
				e.onCluster(t)
			}
			s := e.store(t)
			u := users(t, s, 2)
			group := newGroup(t, s, u...)
			send(t, s, text(u[0], u[1], "unread"))
			restore := refuseConnections(t, e.redis.Addr())
			wantRefused(t, s, u[0], u[1], group)
			restore()
			if n := unreadOf(t, s, u[1], u[0]); n != 1 {
				t.Errorf("%d unread, want 1", n)
			}
		})
	}
}

// refuseConnections ends the connections to a Redis server, and makes it refuse the commands
// of new ones until restore is called.
func refuseConnections(t *testing.T, addr string) (restore func()) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	do := func(command string) {
		t.Helper()
		if _, err := fmt.Fprintf(c, "%s\r\n", command); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	do("CONFIG SET requirepass another")
	do("CLIENT KILL TYPE normal SKIPME yes")
	return func() { do("CONFIG SET requirepass \"\"") }
}

// wantRefused requires that every use of a pipeline fails.
func wantRefused(t *testing.T, s *Store, user, peer, group uint32) {
	t.Helper()
	for name, do := range map[string]func(context.Context) error{
		"apply": func(ctx context.Context) error {
			_, err := s.outbox.Apply(ctx, uuid.New(), 1,
				outbox.Dues{Counts: []outbox.Count{{User: peer, Peer: user, N: 1}}}, nil)
			return err
		},
		"unread counts": func(ctx context.Context) error {
			_, _, err := s.UnreadCounts(ctx, peer, 1<<20)
			return err
		},
		"clear": func(ctx context.Context) error { return s.ClearUnread(ctx, peer, user) },
		"clear a group": func(ctx context.Context) error {
			return s.ClearGroupUnread(ctx, peer, group)
		},
		"tokens": func(ctx context.Context) error {
			_, err := s.DeviceTokens(ctx, []uint32{user})
			return err
		},
		"shields": func(ctx context.Context) error {
			_, err := s.ShieldedGroups(ctx, user, []uint32{group})
			return err
		},
		"sentinels": func(ctx context.Context) error {
			lost, _, err := s.rebuild.Lost(ctx)
			if lost {
				err = errors.New("the counts count as lost")
			}
			return err
		},
		"append": func(ctx context.Context) error {
			m := text(user, peer, "refused")
			s.AppendMessages(ctx, []*im.Message{m})
			return m.Err
		},
	} {
		if err := do(t.Context()); im.KindOf(err) != im.Unavailable || err == nil {
			t.Errorf("%s: %v, want kind unavailable", name, err)
		}
	}
}
