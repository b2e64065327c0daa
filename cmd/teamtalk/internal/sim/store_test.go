package sim

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy/lockout"
	"teamtalk/pool"
)

// database is the model of MySQL and Redis, which all db_proxies use. A write is a call
// that is committed at one time and answered at a later one. Faults may come between.
type database struct {
	*sched
	convs map[uint64]*conv
	names map[string]*im.Message // by sender, recipient and client_msg_id, or sentAs and content
	// groups are the groups, unread the messages that users have not read, by user and
	// conversation.
	groups map[uint32]*group
	unread map[[2]uint32]int
	open   []*call       // not answered
	lag    time.Duration // until when the replica for reads is behind

	// forgets and namesLost break the database, to test the checks: it forgets a message
	// that it has stored, or the client_msg_ids.
	forgets, namesLost bool

	// committed is called with each message that was stored.
	committed func(m *im.Message)

	mu   sync.Mutex
	runs map[string]int // calls so far, by name

	logins *lockout.Memory
}

// conv is a conversation.
type conv struct {
	msgs []im.Message // in order of id
	last uint32
}

// mood is how the store treats the calls of one db_proxy.
type mood uint8

const (
	moodWell  mood = iota
	moodFail       // most calls fail, and nothing is stored
	moodStall      // calls take seconds
	moodDoubt      // calls fail, and some were stored
)

// moods is the number of moods in a plan.
const moods = 3

// call is a call of a db_proxy.
type call struct {
	life      *life
	src       *source
	run       func()
	done      chan error
	committed bool
	dropped   bool // never to be committed
	read      bool // the replica answers it
}

var (
	errAway  = im.Errorf(im.Unavailable, "store: away")
	errDoubt = im.WithKind(im.Unavailable, "store", im.ErrInDoubt)
)

// missing has the methods that store does not have. They panic.
type missing struct{ im.Store }

// store is the database as one db_proxy process sees it. Methods that are missing here
// panic: no client of the simulation leads to them.
type store struct {
	missing
	*lockout.Memory // what all db_proxies know of logins
	db              *database
	proc            *proc
	life            *life
	src             *source

	mu     sync.Mutex
	stored map[uint64]uint32 // the last id of each conversation that it knows to have stored
}

// do has run called by the scheduler some time later, and returns later still. It returns
// an error when run was not called, or perhaps not. Calls of one name must not overlap.
func (st *store) do(name string, run func()) error { return st.call(name, run, false) }

// look is do for a read that the replica answers. It finds what was committed before it
// began, see package replica.
func (st *store) look(name string, run func()) error { return st.call(name, run, true) }

func (st *store) call(name string, run func(), read bool) error {
	db := st.db
	name = fmt.Sprintf("%s.%d %s", st.proc.name, st.proc.lives, name)
	db.mu.Lock()
	db.runs[name]++
	n := db.runs[name]
	db.mu.Unlock()
	c := &call{life: st.life, src: db.source(fmt.Sprintf("%s/%d", name, n)), run: run,
		done: make(chan error, 1), read: read}
	db.post(c.src, func() { db.begin(st.proc, c) })
	return <-c.done
}

// begin schedules the commit and the answer of a call.
func (db *database) begin(p *proc, c *call) {
	if c.life.dead.Load() {
		c.done <- errAway
		return
	}
	db.open = append(db.open, c)
	work, answer := c.src.between(200*time.Microsecond, 8*time.Millisecond),
		c.src.between(50*time.Microsecond, 2*time.Millisecond)
	if c.src.chance(0.02) {
		work += c.src.between(0, 500*time.Millisecond)
	}
	commits, err := true, error(nil)
	switch p.mood {
	case moodFail:
		if c.src.chance(0.7) {
			commits, err = false, errAway
		}
	case moodDoubt:
		if c.src.chance(0.6) {
			commits, err = c.src.chance(0.6), errDoubt
		}
	case moodStall:
		work += c.src.between(0, 3*time.Second)
		answer += c.src.between(0, 3*time.Second)
	}
	if c.read && db.now() < db.lag && commits {
		c.run() // the replica gets no further than the read needs
		work += c.src.between(0, settings.MySQL.ReplicaWait)
		c.run = func() {}
	}
	if commits {
		db.after(work, c.src.name+" commits", func() { db.commit(p, c) })
	}
	db.after(work+answer, c.src.name+" returns", func() { db.finish(c, err) })
}

// commit carries out a call, and crashes its process when that is due.
func (db *database) commit(p *proc, c *call) {
	if c.dropped {
		return
	}
	c.committed = true
	c.run()
	if p.life == c.life && p.crashAtCommit {
		p.crashAtCommit = false
		p.w.crash(p, false, c.src.between(time.Second, 5*time.Second))
	}
}

// finish answers a call, unless its process is gone.
func (db *database) finish(c *call, err error) {
	if i := slices.Index(db.open, c); i >= 0 {
		db.open = slices.Delete(db.open, i, i+1)
		c.done <- err
	}
}

// gone ends the calls of a process that has crashed. Some of them are committed later:
// the database has the request already.
func (db *database) gone(p *proc) {
	for _, c := range slices.Clone(db.open) {
		if c.life == p.life {
			c.dropped = c.dropped || c.src.chance(0.5)
			db.finish(c, errAway)
		}
	}
}

func (db *database) conv(key uint64) *conv {
	c := db.convs[key]
	if c == nil {
		c = &conv{}
		db.convs[key] = c
	}
	return c
}

// AppendMessages stores a batch.
func (st *store) AppendMessages(_ context.Context, batch []*im.Message) {
	rows := make([]im.Message, len(batch))
	for i, m := range batch {
		rows[i] = *m
	}
	err := st.do(fmt.Sprintf("append %x %s", rows[0].Key(), rows[0].Data), func() {
		for i := range rows {
			st.append(&rows[i])
		}
	})
	if err == nil {
		st.keep(rows)
	}
	for i, m := range batch {
		m.Err, m.ID, m.Duplicate, m.FirstCreated, m.GroupVersion = err, 0, false, 0, 0
		m.Previous, m.Whereabouts = 0, nil
		if err == nil {
			r := &rows[i]
			m.Err, m.ID, m.Duplicate, m.GroupVersion = r.Err, r.ID, r.Duplicate, r.GroupVersion
			m.FirstCreated, m.Previous = r.FirstCreated, r.Previous
			m.Whereabouts = r.Whereabouts
		}
	}
}

// append stores one message, and names the one before it as package sql/store does.
func (st *store) append(m *im.Message) {
	st.mu.Lock()
	defer st.mu.Unlock()
	key, known := m.Key(), st.stored[m.Key()]
	st.db.append(m)
	if m.Err != nil || m.Duplicate {
		return
	}
	m.Whereabouts = st.proc.w.cluster.found(st.src, m)
	if list := st.db.convs[key].msgs; m.AskPrevious && known != m.ID-1 && len(list) > 1 &&
		im.MayBeOnItsWay(list[len(list)-2].Created, uint32(wall.Add(st.db.now()).Unix())) {
		m.Previous = m.ID - 1
	}
}

// keep records that messages are stored.
func (st *store) keep(rows []im.Message) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for i := range rows {
		if m := &rows[i]; m.Err == nil {
			st.stored[m.Key()] = max(st.stored[m.Key()], m.ID)
		}
	}
}

// append stores one message.
func (db *database) append(m *im.Message) {
	name := nameOf(m)
	if first := db.names[name]; first != nil && !db.namesLost && repeats(m, first) {
		m.ID, m.Duplicate, m.FirstCreated = first.ID, true, first.Created
		return
	}
	to := []uint32{m.To}
	if m.Type.IsGroup() {
		g := db.groups[m.To]
		if !slices.Contains(g.Members, m.From) {
			m.Err = im.Errorf(im.Denied, "not a member")
			return
		}
		to, m.GroupVersion = g.Members, g.Version
	}
	c := db.conv(m.Key())
	c.last++
	m.ID = c.last
	for _, user := range to {
		if user != m.From {
			db.unread[[2]uint32{user, peerOf(m)}]++
		}
	}
	if db.forgets {
		return
	}
	c.msgs = append(c.msgs, *m)
	stored := *m
	db.names[name] = &stored
	db.committed(m)
}

// nameOf returns how a repeat of m is recognised.
func nameOf(m *im.Message) string {
	if len(m.ClientID) > 0 {
		return fmt.Sprintf("%d %x %s", m.From, m.Key(), m.ClientID)
	}
	return fmt.Sprintf("%d %x %d %s", m.From, m.Key(), m.SentAs, m.Data)
}

// repeats reports whether m, of the same name, repeats first.
func repeats(m, first *im.Message) bool {
	return len(m.ClientID) > 0 || m.SentAs != 0 && m.ResentWithin != 0 &&
		first.Created >= m.ResentSince()
}

// peerOf returns the conversation of m as its recipients name it.
func peerOf(m *im.Message) uint32 {
	if m.Type.IsGroup() {
		return m.To
	}
	return m.From
}

// History returns the messages between two users.
func (st *store) History(_ context.Context, user, peer, begin uint32, count int) (
	[]im.Message, error) {
	return st.history(user, peer, begin, count, im.ConversationKey(user, peer))
}

func (st *store) history(user, peer, begin uint32, count int, key uint64) ([]im.Message, error) {
	var list []im.Message
	err := st.look(fmt.Sprintf("history %d %d %d", user, peer, begin), func() {
		msgs := st.db.conv(key).msgs
		for i := len(msgs) - 1; i >= 0 && len(list) < count; i-- {
			if begin == 0 || msgs[i].ID <= begin {
				list = append(list, msgs[i])
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// MessagesByID returns messages between two users, in order of id.
func (st *store) MessagesByID(_ context.Context, user, peer uint32, ids []uint32) ([]im.Message,
	error) {
	return st.byID(user, peer, ids, im.ConversationKey(user, peer))
}

func (st *store) byID(user, peer uint32, ids []uint32, key uint64) ([]im.Message, error) {
	var list []im.Message
	err := st.look(fmt.Sprintf("by id %d %d %v", user, peer, ids), func() {
		for _, m := range st.db.conv(key).msgs {
			if slices.Contains(ids, m.ID) {
				list = append(list, m)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// ClearUnread records that user has read its messages from peer.
func (st *store) ClearUnread(_ context.Context, user, peer uint32) error {
	return st.do(fmt.Sprintf("read %d %d", user, peer), func() {
		delete(st.db.unread, [2]uint32{user, peer})
	})
}

// password is that of all users, as clients send it.
const password = "0123456789abcdef0123456789abcdef"

// AccountsByName returns the users u1, u2 and so on. It answers at once: the keys of
// logins depend on a seed of the process, and would make two runs differ.
func (st *store) AccountsByName(_ context.Context, names []string) ([]im.Account, error) {
	list := make([]im.Account, len(names))
	for i, name := range names {
		var id uint32
		if _, err := fmt.Sscanf(name, "u%d", &id); err != nil {
			continue
		}
		list[i] = im.Account{User: im.User{ID: id, Name: name, Nick: name},
			Password: im.HashPassword(password, "salt"), Salt: "salt"}
	}
	return list, nil
}

// Now returns the time of the database.
func (st *store) Now() time.Time { return time.Now() }

// CredentialsChangedSince returns none.
func (st *store) CredentialsChangedSince(context.Context, uint32, uint32, int) (
	[]im.Credential, uint32, error) {
	return nil, 0, nil
}

// SyncSessions does nothing.
func (st *store) SyncSessions(context.Context) (int, error) {
	return 0, nil
}

// tasks is a pool whose tasks begin when all goroutines wait, one after the other, sorted by key.
// Without that, a worker could answer within the turn of the loop that gave it the request, or
// after it: two runs would differ.
type tasks struct {
	*pool.Pool
	sched *sched
	name  string
}

// Do runs task on a worker.
func (t *tasks) Do(key uint64, task func(ctx context.Context)) error {
	return t.Pool.Do(key, func(ctx context.Context) {
		begin := make(chan struct{})
		from := &source{name: fmt.Sprintf("%s task %020d", t.name, key)}
		t.sched.post(from, func() {
			close(begin)
			synctest.Wait()
		})
		<-begin
		task(ctx)
	})
}
