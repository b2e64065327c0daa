package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"teamtalk/core/im"
)

var concurrentTests = []test{
	{"64 senders, both directions, several conversations", senders64},
	{"reading while writing", readWhileWriting},
	{"reading one's own write", readOwnWrite},
	{"two processes in one conversation", twoProcesses},
	{"creating users", createTogether},
}

// strands stands for the pool above a store. It collects messages into batches. No two
// batches with messages of the same conversation run at once; several batches run at
// once, and different conversations share a batch.
type strands struct {
	store  im.Store
	shards []*strand
	wg     sync.WaitGroup
}

type strand struct {
	mu      sync.Mutex
	queue   []posted
	running bool
}

type posted struct {
	m    *im.Message
	done func()
}

func newStrands(store im.Store, n int) *strands {
	p := &strands{store: store}
	for range n {
		p.shards = append(p.shards, &strand{})
	}
	return p
}

// post stores m in the order of its conversation. done is called with the outcome.
func (p *strands) post(m *im.Message, done func()) {
	key := m.Key()
	s := p.shards[(key>>32*31+key&0xffffffff)%uint64(len(p.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, posted{m, done})
	if !s.running {
		s.running = true
		p.wg.Go(func() { p.run(s) })
	}
}

// run stores queued messages, batch by batch, until the queue is empty.
func (p *strands) run(s *strand) {
	for {
		s.mu.Lock()
		n := min(len(s.queue), 64)
		if n == 0 {
			s.running = false
			s.mu.Unlock()
			return
		}
		taken := slices.Clone(s.queue[:n])
		s.queue = s.queue[n:]
		s.mu.Unlock()
		batch := make([]*im.Message, n)
		for i, q := range taken {
			batch[i] = q.m
		}
		p.store.AppendMessages(context.Background(), batch)
		for _, q := range taken {
			q.done()
		}
	}
}

func senders64(f *fixture) {
	const senders, each, window, shards = 64, 40, 4, 3
	u := f.users(5)
	var pairs [][2]uint32 // each user writes to each other: ten conversations, twenty directions
	for _, a := range u {
		for _, b := range u {
			if a != b {
				pairs = append(pairs, [2]uint32{a, b})
			}
		}
	}
	p := newStrands(f.s, shards)
	sent := make([][]*im.Message, senders)
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			pair := pairs[i%len(pairs)]
			credit := make(chan struct{}, window) // bounds the messages of one sender in flight
			for n := range each {
				m := text(pair[0], pair[1], fmt.Sprintf("sender %d #%d", i, n))
				m.Created += uint32(n / 10)
				sent[i] = append(sent[i], m)
				credit <- struct{}{}
				p.post(m, func() { <-credit })
			}
		})
	}
	wg.Wait()
	p.wg.Wait()
	f.wantAllStored(sent)
}

// wantAllStored checks that every message is stored once, that the ids of a conversation
// are 1 … n without a gap, that each sender's messages are in order, that History returns
// them, and that they count as unread. The conversations must have been empty before.
func (f *fixture) wantAllStored(sent [][]*im.Message) {
	f.Helper()
	byID := map[uint64]map[uint32]*im.Message{}
	unread := map[[2]uint32]uint32{}
	for i, messages := range sent {
		last := map[uint64]uint32{}
		for _, m := range messages {
			if m.Err != nil || m.Duplicate {
				f.Fatalf("sender %d: duplicate %v, error %v", i, m.Duplicate, m.Err)
			}
			key := im.ConversationKey(m.From, m.To)
			if m.ID <= last[key] {
				f.Fatalf("sender %d: id %d after %d", i, m.ID, last[key])
			}
			last[key] = m.ID
			if byID[key] == nil {
				byID[key] = map[uint32]*im.Message{}
			}
			if other := byID[key][m.ID]; other != nil {
				f.Fatalf("id %d given twice: %q and %q", m.ID, other.Data, m.Data)
			}
			byID[key][m.ID] = m
			unread[[2]uint32{m.To, m.From}]++
		}
	}
	for key, messages := range byID {
		a, b := uint32(key>>32), uint32(key)
		want := make([]*im.Message, len(messages))
		for id, m := range messages {
			if id > uint32(len(messages)) {
				f.Fatalf("conversation %d-%d: id %d, with %d messages: there is a gap", a, b, id,
					len(messages))
			}
			want[id-1] = m
		}
		f.wantHistory(a, b, want...)
		for _, side := range [][2]uint32{{a, b}, {b, a}} {
			if got := f.unread(side[0], side[1]); got != unread[side] {
				f.Errorf("%d has %d unread from %d, want %d", side[0], got, side[1], unread[side])
			}
			if s, ok := f.session(side[0], side[1]); !ok || !sameMessage(s.Latest,
				*want[len(want)-1]) {
				f.Errorf("session of %d with %d: %+v, latest should be %+v", side[0], side[1], s,
					*want[len(want)-1])
			}
		}
	}
}

func readWhileWriting(f *fixture) {
	const batches, readers = 60, 8
	u := f.users(4)
	// the newest id of the conversation of u[0] and u[1] that AppendMessages has returned
	var written atomic.Uint32
	var stop atomic.Bool
	errs := make(chan error, readers)
	var wg sync.WaitGroup
	for i := range readers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			for !stop.Load() {
				if err := readOnce(f, u, &written, rnd); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	for i := range batches {
		batch := append(texts(u[0], u[1], 3), texts(u[1], u[0], 2)...)
		batch = append(batch, texts(u[2], u[0], 2)...)
		for _, m := range batch {
			m.Created += uint32(i)
		}
		f.s.AppendMessages(f.ctx, batch)
		for _, m := range batch {
			if m.Err != nil {
				stop.Store(true)
				wg.Wait()
				f.Fatalf("batch %d: %v", i, m.Err)
			}
		}
		written.Store(batch[4].ID)
	}
	stop.Store(true)
	wg.Wait()
	close(errs)
	for err := range errs {
		f.Error(err)
	}
}

// readOnce makes a random read. The result must be consistent, and include what was
// written before.
func readOnce(f *fixture, u []uint32, written *atomic.Uint32, rnd *rand.Rand) error {
	floor := written.Load()
	switch rnd.IntN(5) {
	case 0:
		id, err := f.s.LatestID(f.ctx, u[1], u[0])
		if err != nil || id < floor {
			return fmt.Errorf("read: LatestID is %d after %d was stored: %w", id, floor, err)
		}
	case 1:
		got, err := f.s.History(f.ctx, u[0], u[1], 0, 20)
		if err != nil {
			return fmt.Errorf("read: History: %w", err)
		}
		if floor > 0 && (len(got) == 0 || got[0].ID < floor) {
			return fmt.Errorf("read: History is older than %d, which was stored", floor)
		}
		for i := 1; i < len(got); i++ {
			if got[i].ID != got[i-1].ID-1 {
				return fmt.Errorf("read: History has %d after %d", got[i].ID, got[i-1].ID)
			}
		}
	case 2:
		sessions, err := f.s.RecentSessions(f.ctx, u[0], 0, 100)
		if err != nil {
			return fmt.Errorf("read: RecentSessions: %w", err)
		}
		for _, s := range sessions {
			if s.Latest.ID == 0 || s.Peer == u[1] && s.Latest.ID < floor {
				return fmt.Errorf("session with %d has latest message %d, %d was stored", s.Peer,
					s.Latest.ID, floor)
			}
		}
	case 3:
		counts, _, err := f.s.UnreadCounts(f.ctx, u[1], 1<<20)
		if err != nil {
			return fmt.Errorf("read: UnreadCounts: %w", err)
		}
		if floor > 0 && (len(counts) != 1 || counts[0].Count < floor/5*3) {
			return fmt.Errorf("UnreadCounts is %+v after %d messages, three of five from there",
				counts, floor)
		}
	case 4:
		if _, err := f.s.AccountByName(f.ctx, "user1"); err != nil {
			return fmt.Errorf("read: AccountByName: %w", err)
		}
	}
	return nil
}

func readOwnWrite(f *fixture) {
	u := f.users(9)
	var wg sync.WaitGroup
	for _, peer := range u[1:] {
		wg.Go(func() {
			for want := uint32(1); want <= 25; want++ {
				m := text(peer, u[0], "x")
				f.s.AppendMessages(f.ctx, []*im.Message{m})
				id, err := f.s.LatestID(f.ctx, u[0], peer)
				if m.Err != nil || err != nil || m.ID != want || id != want {
					f.Errorf("message %d: id %d, %v; then LatestID %d, %v", want, m.ID,
						m.Err, id, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func twoProcesses(f *fixture) {
	const each, perBatch = 25, 4
	other := f.second()
	u := f.users(3)
	sent := make([][]*im.Message, 4)
	var wg sync.WaitGroup
	// Each process sends in both directions of one conversation, one batch at a time. The
	// other conversation makes their batches overlap.
	for i, s := range []im.Store{f.s, other} {
		wg.Go(func() {
			for range each {
				a, b := text(u[0], u[1], "x"), text(u[1], u[0], "y")
				c := texts(u[0], u[2], perBatch-2)
				batch := []*im.Message{c[0], a, b, c[1]}
				if i == 1 {
					batch = []*im.Message{a, c[0], c[1], b}
				}
				s.AppendMessages(f.ctx, batch)
				sent[2*i] = append(sent[2*i], a, b)
				sent[2*i+1] = append(sent[2*i+1], c...)
			}
		})
	}
	wg.Wait()
	f.wantAllStored(sent)
}

func createTogether(f *fixture) {
	const goroutines = 8
	// Each process creates its own users, and one that all of them try to create.
	var taken, created atomic.Int32
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			own := []im.Account{account(1000 + 2*i), account(1001 + 2*i)}
			if _, err := f.s.CreateUsers(f.ctx, own); err != nil {
				f.Errorf("CreateUsers: %v", err)
			}
			_, err := f.s.CreateUsers(f.ctx, []im.Account{account(2000 + i), account(0)})
			switch {
			case err == nil:
				created.Add(1)
			case im.KindOf(err) == im.Exists:
				taken.Add(1)
			default:
				f.Errorf("CreateUsers of a name that others want: %v", err)
			}
		})
	}
	wg.Wait()
	if created.Load() != 1 || taken.Load() != goroutines-1 {
		f.Errorf("the name was given %d times and refused %d times, want 1 and %d", created.Load(),
			taken.Load(), goroutines-1)
	}
	if got, want := f.countUsers(), 2*goroutines+2; got != want {
		f.Errorf("%d users, want %d", got, want)
	}
}
