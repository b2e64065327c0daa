package store

import (
	"testing"
)

// keptRead is in the statements that read all kept counts.
const keptRead = "FROM IMUnreadKept WHERE created>UNIX_TIMESTAMP()-540 ORDER"

// TestCommandsReadNoKeptCounts requires that only servers, which apply lost counts again, read
// the kept counts when they start.
func TestCommandsReadNoKeptCounts(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 2)
	send(t, s, texts(u[0], u[1], 2)...)
	p := e.spy(t)
	for _, command := range []bool{true, false} {
		e.o.NoRebuild = command
		p.count(keptRead)
		other := e.open(t)
		if n := p.seen(); n > 0 == command {
			t.Errorf("command %v: read the kept counts %d times", command, n)
		}
		other.Close()
	}
}

// TestRebuildReadsKeptCountsOnce rebuilds the counts of users and of some groups. All kept
// counts are read once, whatever the number of groups.
func TestRebuildReadsKeptCountsOnce(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 2)
	send(t, s, texts(u[0], u[1], 2)...)
	for range 4 {
		send(t, s, groupTexts(u[0], newGroup(t, s, u...), 1)...)
	}
	e.exec(t, "INSERT INTO IMReadMark (userId, peerId, type, msgId) VALUES (0, 0, 0, 1)")
	e.redis.Do("SET unread_kept 1") // or the rebuild reads them once more, to claim them
	p := e.spy(t)
	other := e.store(t)
	p.count(keptRead)
	done, err := other.RebuildUnread(t.Context())
	if err != nil || done.Groups != 4 || done.Conversations == 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	if n := p.seen(); n != 1 {
		t.Errorf("read the kept counts %d times, want once", n)
	}
}
