package dbproxy_test

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"teamtalk/core/blob"
	"teamtalk/core/config"
	"teamtalk/core/engine"
	"teamtalk/core/im"
	"teamtalk/core/opt/opttest"
	"teamtalk/core/pdu"
	"teamtalk/core/sound"
	"teamtalk/handlers/dbproxy"
	"teamtalk/handlers/dbproxy/grouprules"
	"teamtalk/handlers/dbproxy/lockout"
	"teamtalk/pool"
	"teamtalk/proto/pb"
	"teamtalk/sql/embedded"
)

// house is a db_proxy with the embedded store and a pool, on a TCP port.
type house struct {
	t      *testing.T
	server *dbproxy.Server
	store  *faulty
	clock  *clock
	// recorded is the store's clock, with options.recorded.
	recorded *clock
	addr     string
}

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// faulty is the embedded store with a hook before the calls that tests let fail, block or
// count.
type faulty struct {
	im.Store
	now   func() time.Time
	mu    sync.Mutex
	hook  func() error // called before each call below; it may panic
	where []byte       // the whereabouts of all messages that want them; nil: not known
	moved chan bool    // gets each result of ReplacePassword; nil: nothing is told
}

// Now returns the store's time, which may be later than that of the recordings.
func (f *faulty) Now() time.Time { return f.now() }

func (f *faulty) set(hook func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

func (f *faulty) before() error {
	f.mu.Lock()
	hook := f.hook
	f.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook()
}

func (f *faulty) AccountsByName(ctx context.Context, names []string) ([]im.Account, error) {
	if err := f.before(); err != nil {
		return nil, err
	}
	return f.Store.AccountsByName(ctx, names)
}

func (f *faulty) UnreadCounts(ctx context.Context, user uint32, limit int) ([]im.Unread, uint32,
	error) {
	if err := f.before(); err != nil {
		return nil, 0, err
	}
	return f.Store.UnreadCounts(ctx, user, limit)
}

func (f *faulty) AppendMessages(ctx context.Context, batch []*im.Message) {
	if err := f.before(); err != nil {
		for _, m := range batch {
			m.ID, m.Err = 7, err // an id was assigned before the failure
		}
		return
	}
	f.Store.AppendMessages(ctx, batch)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range batch {
		if f.where != nil && m.WantWhereabouts && m.Err == nil { // as the store on Redis
			m.Whereabouts = f.where
		}
	}
}

// Users returns users in an arbitrary order, not that of their ids.
func (f *faulty) Users(ctx context.Context, ids []uint32) ([]im.User, error) {
	users, err := f.Store.Users(ctx, ids)
	slices.Reverse(users)
	return users, err
}

// options configures a house.
type options struct {
	users int // u00001 …, with the password pw; default 10
	db    dbproxy.Options
	// recorded sets the store's clock to the time of the recordings, at which it stands
	// still.
	recorded bool
	own      func() time.Time        // the server's own clock; nil: that of the store
	stored   func(im.Store) im.Store // returns the store to use in place of the one opened
	pool     pool.Options
	batches  pool.BatchOptions[*dbproxy.Pending]
}

func open(t *testing.T, o options) *house {
	t.Helper()
	recorded := &clock{now: time.Unix(1795409490, 0)}
	times := &clock{now: time.Now()}
	opt := embedded.Options{Dir: t.TempDir(), Now: times.Now}
	if o.recorded {
		opt.Now = recorded.Now
	}
	store, err := embedded.Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if o.users == 0 {
		o.users = 10
	}
	addUsers(t, store, o.users)
	used := im.Store(store)
	if o.stored != nil {
		used = o.stored(store)
	}
	h := &house{t: t, store: &faulty{Store: used, now: times.Now}, clock: times,
		recorded: recorded}
	p := pool.New(o.pool)
	o.db.Store, o.db.Tasks, o.db.Now = h.store, p, h.clock.Now
	if o.own != nil {
		o.db.Now = o.own
	}
	h.server = newServer(o.db)
	o.batches.Shards, o.batches.Failed = 1, h.server.FailBatch
	h.server.SetMessages(pool.NewBatcher(p, o.batches, (*dbproxy.Pending).Size,
		h.server.AppendBatch))
	srv, err := engine.Start(engine.Options{Name: t.Name(), Addr: "127.0.0.1:0", Links: h.server,
		Loops: 2, MaxFrame: cmp.Or(o.db.MaxFrame, pdu.MaxServerFrame),
		MaxBuffered: pdu.MaxServerFrame})
	if err != nil {
		t.Fatal(err)
	}
	h.addr = srv.Addr().String()
	t.Cleanup(func() {
		h.store.set(nil)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, err := range []error{h.server.Drain(ctx), p.Close(ctx), srv.Close(ctx),
			store.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return h
}

// newSounds returns a folder for sounds.
func newSounds(t *testing.T) sound.Store {
	t.Helper()
	folder, err := blob.OpenFolder(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := folder.Close(); err != nil {
			t.Error(err)
		}
	})
	return sound.NewBlobs(folder, im.MaxAudio)
}

func addUsers(t *testing.T, store im.Store, n int) {
	t.Helper()
	accounts := make([]im.Account, n)
	for i := range accounts {
		name := fmt.Sprintf("u%05d", i+1)
		accounts[i] = im.Account{User: im.User{Name: name, Domain: name, Nick: name, DepartID: 1},
			Password: im.HashPassword(im.ClientPassword("pw"), "salt"), Salt: "salt"}
	}
	ids, err := store.CreateUsers(t.Context(), accounts)
	if err != nil {
		t.Fatal(err)
	}
	if ids[0] != 1 || ids[n-1] != uint32(n) {
		t.Fatalf("ids from %d to %d, want 1 to %d", ids[0], ids[n-1], n)
	}
}

// peer is a message server in a test.
type peer struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func (h *house) dial() *peer {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	return &peer{t: h.t, conn: conn, in: bufio.NewReader(conn)}
}

func (p *peer) write(frames []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(frames); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) send(seq uint16, m pb.Message) {
	p.t.Helper()
	frame, err := pdu.Append(nil, seq, m)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(frame)
}

// read returns the next frame, raw and decoded.
func (p *peer) read() (seq uint16, m pb.Message, raw []byte) {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		p.t.Fatal(err)
	}
	raw = make([]byte, pdu.HeaderLen)
	if _, err := io.ReadFull(p.in, raw); err != nil {
		p.t.Fatalf("read: %v", err)
	}
	h := pdu.ParseHeader(raw)
	raw = append(raw, make([]byte, int(h.Length)-pdu.HeaderLen)...)
	if _, err := io.ReadFull(p.in, raw[pdu.HeaderLen:]); err != nil {
		p.t.Fatalf("read: %v", err)
	}
	m, err := pdu.Decode(h.Command, raw[pdu.HeaderLen:])
	if err != nil {
		p.t.Fatal(err)
	}
	return h.Seq, m, raw
}

// answer reads the next frame, except heartbeats, which are sent while an answer takes
// long. The frame must have type P and this seq.
func answer[P pb.Message](p *peer, seq uint16) P {
	p.t.Helper()
	for {
		got, m, _ := p.read()
		rsp, ok := m.(P)
		if _, beat := m.(*pb.IMHeartBeat); beat && !ok {
			continue
		}
		if !ok || got != seq {
			p.t.Fatalf("got %s seq %d: %v", m.Command(), got, m)
		}
		return rsp
	}
}

// ask sends a request and reads its answer.
func ask[P pb.Message](p *peer, seq uint16, req pb.Message) P {
	p.t.Helper()
	p.send(seq, req)
	return answer[P](p, seq)
}

// patience is the limit for what must happen on a loaded machine. Tests of the limits set them.
const patience = 10 * time.Minute

// newServer returns a server with the defaults of the settings where opt has no value, and long
// limits of time. With a negative Lock.Attempts it never locks a name.
func newServer(opt dbproxy.Options) *dbproxy.Server {
	c := config.Default()
	return dbproxy.New(opttest.Fill(opt, dbproxy.Options{
		HistoryLimit: c.DBProxy.HistoryLimit,
		MaxFrame:     int(c.Link.MaxFrame), MaxAnswer: int(c.Link.MaxAnswer),
		Lock: lockout.Limits{Attempts: c.DBProxy.LoginLockAttempts,
			Window: c.DBProxy.LoginLockWindow, NetworkAttempts: c.DBProxy.LoginLockNetwork,
			NameAttempts: c.DBProxy.LoginLockName, NameWindow: c.DBProxy.LoginNameWindow,
			Known: c.DBProxy.LoginKnown},
		Groups: grouprules.Limits{Creations: c.DBProxy.GroupCreations,
			Adds: c.DBProxy.GroupAdds, Gains: c.DBProxy.GroupGains},
		Timeout: patience, LinkTimeout: patience, LinkHeartbeat: patience,
	}))
}
