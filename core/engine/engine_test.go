package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"teamtalk/core/budget"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

func TestLoginDeadline(t *testing.T) {
	clock := newClock()
	r := newRole()
	r.open = func(s *session.Session) error { s.SetDeadline(15 * time.Second); return nil }
	r.frame = func(s *session.Session, h pdu.Header, body []byte) {
		s.SetLoggedIn(uint32(h.Seq), pb.ClientType_CLIENT_TYPE_MAC)
		s.SendFrame(frameOf(h.Command, h.Seq, body))
	}
	s := start(t, Options{Handler: r, Now: clock.now})
	silent, half, in := dial(t, s), dial(t, s), dial(t, s)
	half.send(hello[:10]) // part of a frame is not a login
	in.echo(hello)
	for range 3 {
		next(t, r.sessions)
	}
	clock.advance(15 * time.Second)
	silent.wantEnd()
	half.wantEnd()
	for range 2 {
		if e := next(t, r.closed); e.err != session.ErrLoginDeadline {
			t.Errorf("closed because of %v", e.err)
		}
	}
	in.echo(hello)
}

// TestSlowReader: who does not read is closed when more waits than is allowed, and costs the others on its loop nothing.
func TestSlowReader(t *testing.T) {
	r := newRole()
	s := start(t, Options{Handler: r, Loops: 1, MaxBuffered: 256 << 10})
	slow := dial(t, s)
	victim := next(t, r.sessions)
	other := dial(t, s)
	next(t, r.sessions)
	chunk := frameOf(pb.CmdMsgData, 0, make([]byte, 32<<10))
	for sent := 0; ; sent += len(chunk) {
		if sent > 64<<20 {
			t.Fatal("64 MiB wait for a client that does not read")
		}
		if err := victim.PushFrame(chunk); err != nil {
			t.Fatal(err)
		}
		other.echo(hello) // and with this the loop has written
		if len(r.closed) > 0 {
			break
		}
	}
	if e := next(t, r.closed); e.s != victim || e.err != session.ErrSlow {
		t.Errorf("closed %d because of %v", e.s.ID(), e.err)
	}
	slow.Close()
	other.echo(hello)
}

func TestPanics(t *testing.T) {
	r := newRole()
	var inOpen atomic.Bool
	r.open = func(*session.Session) error {
		if inOpen.Load() {
			panic("open")
		}
		return nil
	}
	r.frame = func(s *session.Session, h pdu.Header, body []byte) {
		if len(body) == 0 {
			panic("frame")
		}
		s.SendFrame(frameOf(h.Command, h.Seq, body))
	}
	r.close = func(*session.Session, error) { panic("close") }
	s := start(t, Options{Handler: r, Loops: 1})
	other := dial(t, s)
	other.echo(hello)

	c := dial(t, s)
	c.send(frameOf(pb.CmdHeartBeat, 0, nil))
	c.wantEnd()
	if e := next(t, r.closed); e.err != session.ErrPanic {
		t.Errorf("closed because of %v", e.err)
	}
	other.echo(hello)

	inOpen.Store(true)
	dial(t, s).wantEnd()
	inOpen.Store(false)
	other.echo(hello)
	dial(t, s).echo(hello)
}

// TestKickNotice: what is sent before a close arrives before the end.
func TestKickNotice(t *testing.T) {
	r := newRole()
	s := start(t, Options{Handler: r})
	c := dial(t, s)
	kicked := next(t, r.sessions)
	notice := frameOf(pb.CmdKickUser, 0, []byte("elsewhere"))
	reason := errors.New("kicked")
	kicked.Loop().Post(func() {
		kicked.SendFrame(notice)
		kicked.Close(reason)
	})
	c.want(notice)
	c.wantEnd()
	if e := next(t, r.closed); e.err != reason {
		t.Errorf("closed because of %v", e.err)
	}
}

// TestLingers: a session that lingers hears nothing of what its client goes on to send, and
// ends when the client closes.
func TestLingers(t *testing.T) {
	r := newRole()
	var frames atomic.Int64
	r.frame = func(s *session.Session, _ pdu.Header, _ []byte) {
		frames.Add(1)
		s.SendFrame(hello)
		s.Linger(session.ErrIdle)
	}
	s := start(t, Options{Handler: r})
	c := dial(t, s)
	c.send(append(append([]byte{}, hello...), hello...))
	c.want(hello)
	c.send(hello)
	c.Close()
	if e := next(t, r.closed); e.err != session.ErrIdle {
		t.Errorf("closed because of %v", e.err)
	}
	if n := frames.Load(); n != 1 {
		t.Errorf("%d frames handled", n)
	}
}

// TestNothingAfterClose: frames that came together with the one that led to the close are not handled.
func TestNothingAfterClose(t *testing.T) {
	r := newRole()
	var frames atomic.Int64
	r.frame = func(s *session.Session, _ pdu.Header, _ []byte) {
		frames.Add(1)
		s.SendFrame(hello)
		s.Close(session.ErrIdle)
	}
	s := start(t, Options{Handler: r})
	c := dial(t, s)
	c.send(append(append([]byte{}, hello...), hello...))
	c.want(hello)
	c.wantEnd()
	if n := frames.Load(); n != 1 {
		t.Errorf("%d frames handled", n)
	}
}

func TestRefusedByHandler(t *testing.T) {
	r := newRole()
	var refuse atomic.Bool
	r.open = func(s *session.Session) error {
		if refuse.Load() {
			s.SendFrame(hello) // never arrives: refused means without a word
			return errors.New("no")
		}
		return nil
	}
	s := start(t, Options{Handler: r, Loops: 1, Budget: budget.Fixed(2)})
	refuse.Store(true)
	for range 5 {
		dial(t, s).wantEnd()
	}
	refuse.Store(false)
	dial(t, s).echo(hello) // and they take nothing of the budget
	sessions := make(chan int, 1)
	s.Loops(func(l *session.Loop) { sessions <- l.Sessions() })
	if n := next(t, sessions); n != 1 {
		t.Errorf("the loop has %d sessions", n)
	}
	if n := r.closes.Load(); n != 0 {
		t.Errorf("Close was called %d times for what Open refused", n)
	}
}

// TestMaxConns and TestBudget: one too many is closed, and there is room again when one has left.
func TestMaxConns(t *testing.T) {
	r := newRole()
	s := start(t, Options{Handler: r, MaxConns: 2})
	room(t, r, []*Server{s, s})
}

func TestBudget(t *testing.T) {
	r := newRole()
	b := budget.Fixed(2)
	// Two listeners share it.
	room(t, r, []*Server{start(t, Options{Handler: r, Budget: b}),
		start(t, Options{Handler: r, Budget: b})})
	if b.Used() > b.Limit() {
		t.Errorf("%d of %d connections are used", b.Used(), b.Limit())
	}
}

// room wants servers to have room for two connections.
func room(t *testing.T, r *role, servers []*Server) {
	t.Helper()
	first, second := dial(t, servers[0]), dial(t, servers[1])
	first.echo(hello)
	second.echo(hello)
	for range 5 {
		dial(t, servers[0]).wantEnd()
		dial(t, servers[1]).wantEnd()
	}
	for range 5 {
		first.Close()
		next(t, r.closed)
		// It may still be counted: it is while its connection closes, right after the handler heard of it.
		for {
			c := dial(t, servers[0])
			c.send(hello)
			if _, err := c.Read(make([]byte, 1)); err == nil {
				first = c
				break
			}
		}
		second.echo(hello)
	}
	dial(t, servers[1]).wantEnd()
}

func TestRefuse(t *testing.T) {
	r := newRole()
	s := start(t, Options{Handler: r})
	c := dial(t, s)
	c.echo(hello)
	s.Refuse()
	dial(t, s).wantEnd()
	c.echo(hello)
}

// TestCloseDrains: what was sent before Close arrives, though it is more than the sockets hold.
func TestCloseDrains(t *testing.T) {
	r := newRole()
	answer := frameOf(pb.CmdMsgData, 1, make([]byte, 8<<20))
	asked := make(chan struct{}, 2)
	r.frame = func(s *session.Session, _ pdu.Header, _ []byte) {
		s.SendFrame(answer)
		asked <- struct{}{}
	}
	s := start(t, Options{Handler: r})
	clients := []*client{dial(t, s), dial(t, s)}
	for _, c := range clients {
		c.send(hello)
	}
	next(t, asked)
	next(t, asked)
	closed := make(chan error, 1)
	go func() { closed <- s.Close(context.Background()) }()
	for _, c := range clients {
		c.want(answer)
		c.wantEnd()
		if e := next(t, r.closed); e.err != session.ErrShutdown {
			t.Errorf("closed because of %v", e.err)
		}
	}
	if err := next(t, closed); err != nil {
		t.Error(err)
	}
	if s.Open() != 0 {
		t.Errorf("%d still open", s.Open())
	}
	next(t, s.Done())
	if err := s.Err(); err != nil {
		t.Errorf("an end that was asked for is reported: %v", err)
	}
	if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
		c.Close()
		t.Error("still listening")
	}
	if err := s.Close(context.Background()); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

// TestCloseGivesUp on clients that do not read when its context ends.
func TestCloseGivesUp(t *testing.T) {
	r := newRole()
	asked := make(chan struct{})
	r.frame = func(s *session.Session, _ pdu.Header, _ []byte) {
		s.SendFrame(make([]byte, 8<<20))
		close(asked)
	}
	clock := newClock() // which stands: the session would linger forever
	s := start(t, Options{Handler: r, Now: clock.now})
	dial(t, s).send(hello)
	next(t, asked)
	ctx, cancel := context.WithCancel(context.Background())
	closed := make(chan error, 1)
	go func() { closed <- s.Close(ctx) }()
	for !s.refusing.Load() {
		runtime.Gosched()
	}
	dial(t, s).wantEnd() // while it drains nobody new comes in
	cancel()
	if err := next(t, closed); err != nil {
		t.Error(err)
	}
	if e := next(t, r.closed); e.err != session.ErrShutdown && e.err != nil {
		t.Errorf("closed because of %v", e.err)
	}
}

func TestListenErrors(t *testing.T) {
	r := newRole()
	s := start(t, Options{Handler: r})
	dial(t, s).echo(hello) // the loops have all their files now
	files := openFiles(t)
	for addr, want := range map[string]string{
		s.Addr().String(): "address already in use",
		"127.0.0.1:99999": "99999",
		"192.0.2.1:0":     "192.0.2.1",
		"nonsense":        "nonsense",
	} {
		second, err := Start(Options{Addr: addr, Handler: r})
		if err == nil {
			t.Errorf("%s: no error", addr)
			_ = second.Close(context.Background())
			continue
		}
		if !strings.Contains(err.Error(), "listen on "+addr) ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if now := openFiles(t); now > files {
		t.Errorf("%d files open, before %d", now, files)
	}
	dial(t, s).echo(hello)
}

// TestKeepAlive: the kernel asks after a client that is silent, so that a dead one does not stay forever.
func TestKeepAlive(t *testing.T) {
	s := start(t, Options{Handler: newRole()})
	c := dial(t, s)
	c.echo(hello)
	fd := serverSide(t, c)
	for name, opt := range map[string]struct{ level, name, want int }{
		"SO_KEEPALIVE":  {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		"TCP_KEEPIDLE":  {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveIdle},
		"TCP_KEEPINTVL": {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveInterval},
		"TCP_KEEPCNT":   {unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveCount},
		"TCP_NODELAY":   {unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
	} {
		if got, err := unix.GetsockoptInt(fd, opt.level, opt.name); err != nil || got != opt.want {
			t.Errorf("%s is %d, %v; want %d", name, got, err, opt.want)
		}
	}
}

// serverSide finds the other end of c among the sockets of this process.
func serverSide(t *testing.T, c *client) int {
	t.Helper()
	want := c.LocalAddr().(*net.TCPAddr).AddrPort()
	for fd := range 4096 {
		peer, err := unix.Getpeername(fd)
		if err != nil {
			continue
		}
		if p, ok := peer.(*unix.SockaddrInet4); ok && p.Port == int(want.Port()) &&
			p.Addr == want.Addr().As4() {
			return fd
		}
	}
	t.Fatal("the server's socket is not found")
	return 0
}

func TestAddresses(t *testing.T) {
	r := newRole()
	s := start(t, Options{Addr: ":0", Handler: r})
	_, port, err := net.SplitHostPort(s.Addr().String())
	if err != nil || port == "0" {
		t.Fatalf("address %s: %v", s.Addr(), err)
	}
	c, err := net.Dial("tcp4", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// Over a socket for both, an IPv4 address comes as an IPv6 one.
	if got := next(t, r.sessions).Remote(); got != c.LocalAddr().String() {
		t.Errorf("the session says %s, the client is %s", got, c.LocalAddr())
	}
}

// TestFromElsewhere: frames from many goroutines arrive, those of each in order; and a fan-out reaches all.
func TestFromElsewhere(t *testing.T) {
	const posters, each = 4, 500
	r := newRole()
	s := start(t, Options{Handler: r, Loops: 2})
	c := dial(t, s)
	target := next(t, r.sessions)
	for p := range posters {
		go func() {
			for i := range each {
				if err := target.PushFrame(frameOf(pb.CmdMsgData, uint16(i),
					[]byte{byte(p)})); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	var seen [posters]uint16
	frame := make([]byte, pdu.HeaderLen+1)
	for range posters * each {
		if _, err := c.Read(frame[:0]); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(frame); {
			m, err := c.Read(frame[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += m
		}
		h, p := pdu.ParseHeader(frame), frame[pdu.HeaderLen]
		if h.Seq != seen[p] {
			t.Fatalf("from %d came %d, want %d", p, h.Seq, seen[p])
		}
		seen[p]++
	}
	clients := []*client{c}
	for range 9 {
		clients = append(clients, dial(t, s))
		next(t, r.sessions)
	}
	s.Loops(func(l *session.Loop) {
		l.Each(func(s *session.Session) { s.SendFrame(hello) })
	})
	for _, c := range clients {
		c.want(hello)
	}
}

// TestLongMailbox: more than one turn may take does all get done, and sockets have their turn in between.
func TestLongMailbox(t *testing.T) {
	r := newRole()
	s := start(t, Options{Handler: r, Loops: 1})
	c := dial(t, s)
	l := next(t, r.sessions).Loop()
	const n = 50_000
	ran := 0
	done := make(chan int, 1)
	for range n {
		l.Post(func() { ran++ })
	}
	l.Post(func() { done <- ran })
	c.echo(hello)
	if got := next(t, done); got != n {
		t.Errorf("%d ran", got)
	}
	// Work that makes more of itself forever does not keep the others from theirs.
	var stop atomic.Bool
	var again func()
	again = func() {
		if !stop.Load() {
			l.Post(again)
		}
	}
	l.Post(again)
	c.echo(hello)
	stop.Store(true)
}

// TestChurn opens and ends connections in every way there is; at the end nothing is left of them.
func TestChurn(t *testing.T) {
	const workers, each = 8, 60
	files := openFiles(t)
	r := newRole()
	s := start(t, Options{Handler: r, Loops: 2})
	var running sync.WaitGroup
	for w := range uint64(workers) {
		running.Go(func() {
			rnd := rand.New(rand.NewPCG(w, 1))
			for range each {
				if err := visit(s.Addr().String(), rnd.IntN(7)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if opens, closes := r.opens.Load(), r.closes.Load(); opens != closes || opens == 0 ||
		s.Open() != 0 {
		t.Errorf("%d opened, %d closed, %d open", opens, closes, s.Open())
	}
	if used := s.opt.Budget.Used(); used != 0 {
		t.Errorf("%d of the budget still used", used)
	}
	if now := openFiles(t); now > files {
		t.Errorf("%d files open, before %d", now, files)
	}
}

// visit connects and ends the connection in one of seven ways.
func visit(addr string, how int) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	c := nc.(*net.TCPConn)
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	switch how {
	case 0: // says nothing
	case 1: // leaves in the middle of a frame
		_, err = c.Write(hello[:len(hello)-1])
	case 2: // leaves before the answer
		_, err = c.Write(hello)
	case 3: // resets the connection
		_, _ = c.Write(hello)
		err = c.SetLinger(0)
	case 4: // sends what ends the connection
		_, _ = c.Write([]byte{0, 0, 0, 1})
		_, _ = c.Read(buf)
	case 5: // closes one direction only
		_, _ = c.Write(hello)
		_ = c.CloseWrite()
		_, _ = c.Read(buf)
	default:
		if _, err = c.Write(hello); err == nil {
			_, err = c.Read(buf)
		}
	}
	if err != nil {
		return fmt.Errorf("way %d: %w", how, err)
	}
	return nil
}

// TestStartStop: a server leaves no files behind.
func TestStartStop(t *testing.T) {
	once := func() {
		r := newRole()
		s := start(t, Options{Handler: r})
		c := dial(t, s)
		c.echo(hello)
		if err := s.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		c.wantEnd()
		c.Close()
	}
	once() // the runtime's own poller opens files, too
	files := openFiles(t)
	for range 5 {
		once()
	}
	if now := openFiles(t); now > files {
		t.Errorf("%d files open, before %d", now, files)
	}
}

// TestOutOfFiles: when accept fails for want of files, gnet ends its engine without an error. It is reported as one.
func TestOutOfFiles(t *testing.T) {
	r := newRole()
	s := start(t, Options{Handler: r})
	dial(t, s).echo(hello)
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	low := unix.Rlimit{Cur: uint64(openFiles(t)) + 50, Max: lim.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
			t.Error(err)
		}
	}()
	var taken []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		defer f.Close()
		taken = append(taken, f)
	}
	if err := taken[0].Close(); err != nil {
		t.Fatal(err)
	}
	// The one file that is left is the client's.
	if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
		defer c.Close()
	}
	next(t, s.Done())
	if err := s.Err(); err == nil {
		t.Error("the engine ended by itself, but says nothing")
	}
	if err := s.Close(context.Background()); err == nil {
		t.Error("closing it says nothing of it")
	}
}

func BenchmarkEcho(b *testing.B) {
	for _, pipelined := range []int{1, 32} {
		b.Run(fmt.Sprintf("pipelined=%d", pipelined), func(b *testing.B) {
			s := start(b, Options{Handler: newRole()})
			frame := frameOf(pb.CmdMsgData, 1, make([]byte, 64))
			c := dial(b, s)
			if err := c.SetDeadline(time.Time{}); err != nil {
				b.Fatal(err)
			}
			var batch []byte
			for range pipelined {
				batch = append(batch, frame...)
			}
			b.ReportAllocs()
			for b.Loop() {
				c.echo(batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*pipelined), "ns/frame")
		})
	}
}
