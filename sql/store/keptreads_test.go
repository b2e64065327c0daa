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
