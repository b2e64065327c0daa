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

// sentBefore returns the id of the first message that m repeats, among the last ones that a
// conversation searches; 0: none.
func sentBefore(stored []*im.Message, m *im.Message) uint32 {
	for _, old := range stored[max(0, len(stored)-numbering.LookBack):] {
		if m.ResentWithin != 0 && m.SentAs != 0 && old.From == m.From && old.SentAs == m.SentAs &&
			old.Type == m.Type && old.Created >= m.ResentSince() &&
			string(old.Data) == string(m.Data) {
			return old.ID
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
	stored := map[pb.MsgType][]*im.Message{}
	r := rand.New(rand.NewPCG(1, 2))
	found := 0
	for i := range 6000 {
		m := message(u[r.IntN(2)], 0, fmt.Sprint(r.IntN(3)))
		m.Created, m.SentAs = uint32(1_000_000+i/20), uint32(r.IntN(500))
		if r.IntN(4) > 0 {
			m.ResentWithin = 60
		}
		if m.To = u[0] + u[1] - m.From; i%2 == 0 {
			m.Type, m.To = pb.MsgType_MSG_TYPE_GROUP_TEXT, g.ID
		}
		batch := []*im.Message{m}
		switch r.IntN(200) {
		case 0:
			batch = append(batch, message(u[0], u[1], "refused")) // one by one, in savepoints
		case 1:
			s.writer.forgetAll()
		}
		want := sentBefore(stored[m.Type], m)
		s.AppendMessages(ctx, batch)
		if m.Err != nil || m.Duplicate != (want != 0) || m.Duplicate && m.ID != want {
			t.Fatalf("message %d: id %d, duplicate %v, %v, want that of %d", i, m.ID, m.Duplicate,
				m.Err, want)
		}
		if m.Duplicate {
			found++
			continue
		}
		if n := uint32(len(stored[m.Type])) + 1; n != m.ID {
			t.Fatalf("i %d: id %d want %d batch %d type %v", i, m.ID, n, len(batch), m.Type)
		}
		stored[m.Type] = append(stored[m.Type], m)
	}
	if found < 500 {
		t.Errorf("only %d repeats", found)
	}
}
