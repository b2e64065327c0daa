package store

import (
	"fmt"
	"testing"

	"teamtalk/core/im"
)

// asking returns n texts between two users that ask for the message before them.
func (e *env) asking(from, to uint32, n int) []*im.Message {
	list := texts(from, to, n)
	for _, m := range list {
		m.Created, m.AskPrevious = uint32(e.clock.now().Unix()), true
	}
	return list
}

// TestPreviousOfAnotherProcess: two processes store messages of one conversation. The first
// one behind that of the other process names it, unless it is old.
func TestPreviousOfAnotherProcess(t *testing.T) {
	for name, make := range map[string]func(*testing.T) *env{"finalized": newEnvT,
		"unfinalized": unfinalized} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := make(t)
			both := []*Store{e.store(t), e.store(t)}
			u := users(t, both[0], 2)
			e.refuse(t, "refused")
			for _, st := range []struct {
				what  string
				store int
				// change changes the first of the messages, want says which of them name
				// the one before.
				change func(m *im.Message)
				want   []bool
			}{
				{"the first one of all", 0, nil, []bool{false}},
				{"another process", 1, nil, []bool{true, false}},
				{"the same process again", 1, nil, []bool{false}},
				{"the first process again", 0, nil, []bool{true}},
				{"nobody asks", 1, func(m *im.Message) { m.AskPrevious = false }, []bool{false}},
				{"the clock is slow", 0, func(m *im.Message) { m.Created -= 5 }, []bool{true}},
				{"behind a slow clock", 1, func(m *im.Message) { m.Created += 5 }, []bool{true}},
				{"behind a fast clock", 0, func(m *im.Message) { m.Created -= 60 }, []bool{true}},
				{"behind an old one", 1, nil, []bool{false}},
				{"refused", 0, func(m *im.Message) { m.Data = []byte("refused") }, []bool{false}},
				{"behind one without a row", 1, nil, []bool{true}},
				{"refused", 1, func(m *im.Message) { m.Data = []byte("refused") }, []bool{false}},
				{"behind its own without a row", 1, nil, []bool{false}},
			} {
				list := e.asking(u[0], u[1], len(st.want))
				if st.change != nil {
					st.change(list[0])
				}
				both[st.store].AppendMessages(t.Context(), list)
				for i, m := range list {
					want := uint32(0)
					if st.want[i] {
						want = m.ID - 1
					}
					if m.Previous != want || (m.Err != nil) != (st.what == "refused") {
						t.Errorf("%s: message %d names %d, want %d; %v", st.what, m.ID,
							m.Previous, want, m.Err)
					}
				}
			}
		})
	}
}

// TestPreviousInDoubt: the outcome of a batch is not known to the process, and it is
// committed. The next message of the process names it. It names none that was removed.
func TestPreviousInDoubt(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 2)
	send(t, s, e.asking(u[0], u[1], 1)...)
	e.refuse(t, "refused")
	lost := e.asking(u[0], u[1], 1)
	lost[0].Data = []byte("refused")
	s.AppendMessages(t.Context(), lost)
	table := s.conversations.Cached(im.ConversationKey(u[0], u[1])).Thread.Table()
	e.exec(t, fmt.Sprintf("INSERT INTO %s (relateId, fromId, toId, msgId, content, status, type, "+
		"created, updated) SELECT relateId, fromId, toId, 2, content, 0, type, %d, updated "+
		"FROM %[1]s", table, lost[0].Created))
	behind := e.asking(u[0], u[1], 1)
	send(t, s, behind...)
	if m := behind[0]; m.ID != 3 || m.Previous != 2 {
		t.Errorf("behind one in doubt, message %d names %d", m.ID, m.Previous)
	}
	e.exec(t, fmt.Sprintf("UPDATE %s SET status=1", table))
	removed := e.asking(u[0], u[1], 1)
	send(t, e.store(t), removed...)
	if removed[0].Previous != 0 {
		t.Errorf("a message that was removed is named: %d", removed[0].Previous)
	}
}

// TestPreviousIsLookedUpOnce counts the commands for the first messages of conversations that
// another process has stored to, and for the next ones. Only the first ones cost one more, for
// all of a batch.
func TestPreviousIsLookedUpOnce(t *testing.T) {
	t.Parallel()
	const pairs = 50
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 2*pairs)
	batch := func(asks bool) (list []*im.Message) {
		for i := range pairs {
			m := e.asking(u[2*i], u[2*i+1], 1)[0]
			m.AskPrevious = asks
			list = append(list, m)
		}
		return list
	}
	send(t, s, batch(true)...)
	p := e.spy(t)
	var commands [2][2]int // of the first batch and the second, without asking and with it
	for i, asks := range []bool{false, true} {
		other := e.store(t)
		for j := range 2 {
			list := batch(asks)
			p.count("IMM")
			send(t, other, list...)
			commands[j][i] = p.seen()
			for _, m := range list {
				if named := m.Previous == m.ID-1; named != (asks && j == 0) {
					t.Fatalf("asked %v, batch %d: message %d names %d", asks, j, m.ID, m.Previous)
				}
			}
		}
	}
	if first := commands[0]; first[1] != first[0]+1 {
		t.Errorf("%d commands for the first messages, and %d without asking", first[1], first[0])
	}
	if next := commands[1]; next[1] != next[0] {
		t.Errorf("%d commands for the next messages, and %d without asking", next[1], next[0])
	}
}
