package store

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/sql/store/groups"
)

// mirror returns a group's members in Redis: users and times of joining, ordered by user.
func (e *env) mirror(t testing.TB, group uint32) []string {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: e.redis.Addr()})
	defer client.Close()
	fields, err := client.HGetAll(context.Background(), groups.MemberKey(group)).Result()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for user, at := range fields {
		list = append(list, user+" "+at)
	}
	slices.Sort(list)
	return list
}

// wantMirror checks that Redis has the same members as MySQL.
func (e *env) wantMirror(t testing.TB, what string, group uint32) {
	t.Helper()
	want := e.names(t, fmt.Sprintf("SELECT CONCAT(userId, ' ', created) FROM IMGroupMember "+
		"WHERE groupId=%d AND status=0", group))
	slices.Sort(want)
	if got := e.mirror(t, group); !slices.Equal(got, want) {
		t.Errorf("%s: Redis has members %q, MySQL %q", what, got, want)
	}
}

// TestRedisAwayAtChange changes members while Redis is down. Redis must get the change
// later, and earlier messages must not be unread for new members.
func TestRedisAwayAtChange(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash %v", crash), func(t *testing.T) {
			e := newEnv(t)
			if !crash {
				e.o.Housekeeping = 20 * time.Millisecond
			}
			s := e.open(t)
			defer func() { s.Close() }()
			u := users(t, s, 4)
			g := newGroup(t, s, u[:3]...)
			send(t, s, groupTexts(u[0], g, 5)...)
			if crash {
				s.db.Hooks.AfterCommit = func() error { return errCrash }
			} else {
				e.redis.Save()
				e.redis.Stop()
			}
			change(t, s, g, del, u[1])
			c := change(t, s, g, add, u[3])
			if n := e.number(t, "SELECT COUNT(*) FROM IMUnreadOutbox "+
				"WHERE HEX(payload) LIKE '00020000%'"); n != 2 {
				t.Fatalf("%d changes in the outbox, want 2", n)
			}
			if crash {
				s.Close()
				s = e.open(t)
			} else {
				e.redis.Start()
				for e.outboxRows(t) > 1 { // housekeeping removes it; the row of a worker stays
					time.Sleep(10 * time.Millisecond)
				}
			}
			e.wantMirror(t, "Redis is back", g)
			wantGroupUnread(t, "Redis is back", s, g, u, 0, 0, 5, 0)
			m := groupText(u[0], g, "after")
			send(t, s, m)
			if m.GroupVersion != c.Version {
				t.Errorf("version %d, want %d", m.GroupVersion, c.Version)
			}
			wantGroupUnread(t, "and a message", s, g, u, 0, 0, 6, 1)
			if n, err := s.outbox.Recover(t.Context(), 0); err != nil {
				t.Errorf("%d, %v", n, err)
			}
			wantGroupUnread(t, "recovered again", s, g, u, 0, 0, 6, 1)
		})
	}
}

// TestJoinCountsWhatIsOwed lets a user join while the counts of stored messages are still
// owed. These messages must never be unread for the new member.
func TestJoinCountsWhatIsOwed(t *testing.T) {
	e := newEnv(t)
	s, other := e.store(t), e.store(t)
	u := users(t, s, 3)
	g := newGroup(t, s, u[:2]...)
	s.db.Hooks.AfterCommit = func() error { return errCrash }
	send(t, s, groupTexts(u[0], g, 3)...)
	change(t, other, g, add, u[2])
	wantGroupUnread(t, "joined", other, g, u, 0, 3, 0)
	if _, err := other.outbox.Recover(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	wantGroupUnread(t, "recovered", other, g, u, 0, 3, 0)
}

// TestMirrorKeepsOrder changes members after another process has read them for Redis. The
// change must wait, so that Redis ends with the later state.
func TestMirrorKeepsOrder(t *testing.T) {
	e := newEnv(t)
	s, other := e.store(t), e.store(t)
	u := users(t, s, 2)
	g := newGroup(t, s, u[0])
	done := make(chan error, 1)
	s.db.Hooks.Mirror = func() error {
		s.db.Hooks.Mirror = nil
		go func() {
			_, err := other.ChangeMembers(context.Background(), im.MemberEdit{Group: g, Type: del,
				Users: u[1:]})
			done <- err
		}()
		for len(done) == 0 && e.number(t, "SELECT COUNT(*) FROM information_schema.INNODB_TRX "+
			"WHERE trx_state='LOCK WAIT'") == 0 {
			time.Sleep(10 * time.Millisecond) // the change waits, as it should, or is finished
		}
		return nil
	}
	change(t, s, g, add, u[1])
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	e.wantMirror(t, "after both", g)
	if got := e.mirror(t, g); len(got) != 1 {
		t.Errorf("Redis has %q", got)
	}
}

// TestJoinAppliedAgain crashes a process after Redis has the new member and before the
// outbox row is removed. Messages since then must stay unread.
func TestJoinAppliedAgain(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 3)
	g := newGroup(t, s, u[:2]...)
	send(t, s, groupTexts(u[0], g, 2)...)
	s.db.Hooks.AfterCommit = func() error { return errCrash }
	change(t, s, g, add, u[2])
	s.db.Hooks.AfterCommit = nil
	e.exec(t, "CREATE TABLE copy AS SELECT * FROM IMUnreadOutbox "+
		"WHERE HEX(payload) LIKE '00020000%'")
	for round := range 3 {
		if _, err := s.outbox.Recover(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		wantGroupUnread(t, "recovered", s, g, u, 0, uint32(2+round), uint32(round))
		send(t, s, groupTexts(u[0], g, 1)...)
		e.exec(t, "INSERT INTO IMUnreadOutbox SELECT * FROM copy")
	}
}
