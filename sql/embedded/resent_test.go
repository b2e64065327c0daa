package embedded

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/embedded/numbering"
)

// sent is what a message and its repeats have in common.
type sent struct {
	from, as uint32
	data     string
}

func sentOf(m *im.Message) sent { return sent{m.From, m.SentAs, string(m.Data)} }

// past is the messages of a conversation, in order, and by what repeats have in common.
type past struct {
	all  []*im.Message
	same map[sent][]int // places in all
}

func (h *past) add(m *im.Message) {
	h.same[sentOf(m)] = append(h.same[sentOf(m)], len(h.all))
	h.all = append(h.all, m)
}

// before returns the id of the first message that m repeats, among the last ones that a
// conversation searches; 0: none.
func (h *past) before(m *im.Message) uint32 {
	if m.ResentWithin == 0 || m.SentAs == 0 {
		return 0
	}
	for _, at := range h.same[sentOf(m)] {
		if at >= len(h.all)-numbering.LookBack && h.all[at].Created >= m.ResentSince() {
			return h.all[at].ID
		}
	}
	return 0
}

// TestRepeatsAgreeWithTheTable stores messages at random, in a conversation and a group, and
// compares which ones are recognised as repeats with a search of all messages. Meanwhile memories
// are dropped, transactions are rolled back, and another process writes.
func TestRepeatsAgreeWithTheTable(t *testing.T) {
	ctx := context.Background()
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	u := people(t, s, 2)
	g, err := s.CreateGroup(ctx, im.Group{Name: "g", Creator: u[0],
		Type: pb.GroupType_GROUP_TYPE_NORMAL, Members: u}, u[0])
	if err != nil {
		t.Fatal(err)
	}
	refuse(t, s, "refused")
	between, inGroup := &past{same: map[sent][]int{}}, &past{same: map[sent][]int{}}
	r := rand.New(rand.NewPCG(1, 2))
	found := 0
	for i := range 6000 {
		m := message(u[r.IntN(2)], 0, fmt.Sprint(r.IntN(3)))
		m.Created, m.SentAs = uint32(1_000_000+i/20), uint32(r.IntN(500))
		if r.IntN(4) > 0 {
			m.ResentWithin = 60
		}
		stored := between
		if m.To = u[0] + u[1] - m.From; i%2 == 0 {
			m.Type, m.To = pb.MsgType_MSG_TYPE_GROUP_TEXT, g.ID
			stored = inGroup
		}
		batch := []*im.Message{m}
		switch r.IntN(200) {
		case 0:
			batch = append(batch, message(u[0], u[1], "refused")) // one by one, in savepoints
		case 1:
			s.writer.forgetAll()
		}
		want := stored.before(m)
		s.AppendMessages(ctx, batch)
		if m.Err != nil || m.Duplicate != (want != 0) || m.Duplicate && m.ID != want {
			t.Fatalf("message %d: id %d, duplicate %v, %v, want that of %d", i, m.ID, m.Duplicate,
				m.Err, want)
		}
		if m.Duplicate {
			found++
			continue
		}
		if n := uint32(len(stored.all)) + 1; n != m.ID {
			t.Fatalf("i %d: id %d want %d batch %d type %v", i, m.ID, n, len(batch), m.Type)
		}
		stored.add(m)
	}
	if found < 500 {
		t.Errorf("only %d repeats", found)
	}
}
