package embedded

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// crowd is goroutines that send to conversations and to a group, through a server and two
// processes beside it, and read each message as soon as it is acked.
type crowd struct {
	t      *testing.T
	stores []*Store // the first is the server
	users  []uint32 // user i sends to user i+1, and to the group
	group  uint32
	acked  atomic.Int64 // messages of the group, for the goroutine that changes its members
}

// send stores a message until it is acked, and gives up now and then. It reads the message through
// another store.
func (c *crowd) send(m *im.Message, n int) {
	m.ClientID = m.Data
	for try := 0; ; try++ {
		ctx, cancel := context.WithCancel(context.Background())
		if (n+try)%5 == 1 {
			go cancel()
		}
		s := c.stores[0]
		if n%7 == 3 {
			s = c.stores[1+n%2]
		}
		s.AppendMessages(ctx, []*im.Message{m})
		cancel()
		if m.Err == nil {
			break
		}
		if im.KindOf(m.Err) != im.Unavailable {
			c.t.Error(m.Err)
			return
		}
	}
	s := c.stores[n/3%len(c.stores)]
	read := s.MessagesByID
	if m.Type.IsGroup() {
		read = s.GroupMessagesByID
	}
	got, err := read(context.Background(), m.From, m.To, []uint32{m.ID})
	if err != nil || len(got) != 1 || string(got[0].Data) != string(m.Data) {
		c.t.Errorf("message %d with %q was acked; stored is %v, %v", m.ID, m.Data, got, err)
	}
}

// join lets a user join the group and leave it again, through each store in turn. It sees what was
// sent after it has joined, and nothing else.
func (c *crowd) join(user uint32, n int) {
	ctx := context.Background()
	s := c.stores[n%len(c.stores)]
	before := uint32(c.acked.Load())
	edit := im.MemberEdit{Group: c.group, Type: pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD,
		Users: []uint32{user}, By: c.users[0]}
	if _, err := s.ChangeMembers(ctx, edit); err != nil {
		c.t.Error(err)
		return
	}
	m := groupMessage(c.users[0], c.group, fmt.Sprintf("to %d-%d", user, n))
	c.send(m, 1)
	s = c.stores[(n+1)%len(c.stores)]
	list, err := s.GroupHistory(ctx, user, c.group, m.ID, 1<<20)
	if err != nil || len(list) == 0 || list[0].ID != m.ID || list[len(list)-1].ID <= before {
		c.t.Errorf("joined after message %d: sees %d messages up to %d: %v", before, len(list),
			m.ID, err)
	}
	counts, _, err := s.UnreadCounts(ctx, user, 10)
	if err != nil || len(counts) != 1 || counts[0].Count < uint32(len(list)) {
		c.t.Errorf("%d messages are seen, unread are %v, %v", len(list), counts, err)
	}
	edit.Type = pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL
	if _, err := s.ChangeMembers(ctx, edit); err != nil {
		c.t.Error(err)
	}
}

// TestBeside: whatever processes beside the server read and change, each message is stored when it
// is acked, once, and counted once.
func TestBeside(t *testing.T) {
	const pairs, each = 4, 60
	c := &crowd{t: t, stores: []*Store{open(t, Options{Dir: filepath.Join(t.TempDir(), "data"),
		BusyTimeout: time.Minute})}}
	for range 2 {
		c.stores = append(c.stores, open(t, Options{Dir: c.stores[0].dir, Admin: true,
			BusyTimeout: time.Minute}))
	}
	c.users = people(t, c.stores[0], 2*pairs+1)
	last := c.users[2*pairs]
	c.group = newGroup(t, c.stores[0], c.users[:2*pairs]...)
	var wg sync.WaitGroup
	for i := range pairs {
		wg.Go(func() {
			a, b := c.users[2*i], c.users[2*i+1]
			for n := range each {
				c.send(message(a, b, fmt.Sprintf("%d-%d", i, n)), n)
				m := groupMessage(a, c.group, fmt.Sprintf("group %d-%d", i, n))
				c.send(m, n+1)
				for old := c.acked.Load(); old < int64(m.ID) &&
					!c.acked.CompareAndSwap(old, int64(m.ID)); {
					old = c.acked.Load()
				}
			}
		})
	}
	for n := range each / 4 {
		c.join(last, n)
	}
	wg.Wait()
	for i := range pairs {
		checkPair(t, c.stores[i%len(c.stores)], c.users[2*i], c.users[2*i+1], each)
	}
	for _, s := range slices.Backward(c.stores) {
		checkWhole(t, s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// checkPair requires that a has sent n different messages to b, which b has not read.
func checkPair(t *testing.T, s *Store, a, b uint32, n int) {
	t.Helper()
	list, err := s.History(context.Background(), b, a, 0, 1<<20)
	bodies := map[string]bool{}
	for _, m := range list {
		bodies[string(m.Data)] = true
	}
	if err != nil || len(list) != n || len(bodies) != n {
		t.Errorf("%d messages with %d bodies, %v; want %d", len(list), len(bodies), err, n)
	}
	counts, _, err := s.UnreadCounts(context.Background(), b, 10)
	for _, u := range counts {
		if u.Peer == a && u.Type == pb.SessionType_SESSION_TYPE_SINGLE && int(u.Count) == n {
			return
		}
	}
	t.Errorf("unread are %v, %v; want %d", counts, err, n)
}
