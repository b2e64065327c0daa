package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"teamtalk/core/budget"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

func TestLoginDeadlineClosesTheSession(t *testing.T) {
	clock := newClock()
	r := newRole()
	r.open = func(s *session.Client) error { s.SetDeadline(15 * time.Second); return nil }
	r.frame = func(s *session.Client, h pdu.Header, body []byte) {
		s.SetLoggedIn(uint32(h.Seq), pb.ClientType_CLIENT_TYPE_MAC)
		s.SendFrame(frameOf(h.Command, h.Seq, body))
	}
	s := start(t, Options{Clients: r, Now: clock.now, AfterFunc: clock.afterFunc})
	silent, half, in := dial(t, s), dial(t, s), dial(t, s)
	half.send(hello[:10]) // part of a frame is not a login
	in.echo(hello)
	for range 3 {
		next(t, r.sessions)
	}
	settle(s)
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

// TestSlowReaderIsClosed keeps sending to a client that does not read. The client is
// closed at MaxBuffered, and the others on its loop are served.
func TestSlowReaderIsClosed(t *testing.T) {
	r := newRole()
	s := start(t, Options{Clients: r, Loops: 1, MaxBuffered: 256 << 10})
	slow := dial(t, s)
	victim := next(t, r.sessions)
	other := dial(t, s)
	next(t, r.sessions)
	chunk := frameOf(pb.CmdMsgData, 0, make([]byte, 32<<10))
	for sent := 0; ; sent += len(chunk) {
		if sent > 64<<20 {
			t.Fatal("64 MiB wait for a client that does not read, the limit is 1 MiB")
		}
		if err := victim.PushShared(chunk); err != nil {
			t.Fatal(err)
		}
		other.echo(hello) // after this echo the loop has written
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

func TestPanicClosesOneSession(t *testing.T) {
	r := newRole()
	var inOpen atomic.Bool
	r.open = func(*session.Client) error {
		if inOpen.Load() {
			panic("open")
		}
		return nil
	}
	r.frame = func(s *session.Client, h pdu.Header, body []byte) {
		if len(body) == 0 {
			panic("frame")
		}
		s.SendFrame(frameOf(h.Command, h.Seq, body))
	}
	r.close = func(*session.Client, error) { panic("close") }
	s := start(t, Options{Clients: r, Loops: 1})
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

func TestSessionRefusedByItsHandler(t *testing.T) {
	r := newRole()
	var refuse atomic.Bool
	r.open = func(s *session.Client) error {
		if refuse.Load() {
			s.SendFrame(hello) // is not sent, because a refused session gets no output
			return errors.New("no")
		}
		return nil
	}
	s := start(t, Options{Clients: r, Loops: 1, Budget: budget.Fixed(2)})
	refuse.Store(true)
	for range 5 {
		dial(t, s).wantEnd()
	}
	refuse.Store(false)
	dial(t, s).echo(hello) // the refused connections were returned to the budget
	sessions := make(chan int, 1)
	s.Loops(func(l *session.Loop) { sessions <- l.Sessions() })
	if n := next(t, sessions); n != 1 {
		t.Errorf("the loop has %d sessions", n)
	}
	if n := r.closes.Load(); n != 0 {
		t.Errorf("Close was called %d times for sessions that Open refused", n)
	}
}

// TestMaxConnsBoundsConnections and TestBudgetBoundsConnections close the connection
// beyond the limit, and accept one again after another has ended.
func TestMaxConnsBoundsConnections(t *testing.T) {
	r := newRole()
	s := start(t, Options{Clients: r, MaxConns: 2})
	room(t, r, []*Server{s, s})
}

// TestLoopsFollowTheQuota: a container with a quota of one processor gets one loop, on a machine
// with more cores as well.
func TestLoopsFollowTheQuota(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	r := newRole()
	s := start(t, Options{Clients: r})
	for range 8 {
		dial(t, s)
		<-r.sessions
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.loops); n != 1 {
		t.Errorf("%d loops have connections, want 1", n)
	}
}

func TestBudgetBoundsConnections(t *testing.T) {
	r := newRole()
	b := budget.Fixed(2)
	// Two listeners share the budget.
	room(t, r, []*Server{start(t, Options{Clients: r, Budget: b}),
		start(t, Options{Clients: r, Budget: b})})
	if b.Used() > b.Limit() {
		t.Errorf("%d of %d connections are used", b.Used(), b.Limit())
	}
}

// room fails unless servers have room for exactly two connections.
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
		// A connection still counts for a moment after its handler's Close, so retry.
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

func TestRefuseKeepsOpenConnections(t *testing.T) {
	r := newRole()
	s := start(t, Options{Clients: r})
	c := dial(t, s)
	c.echo(hello)
	s.Refuse()
	dial(t, s).wantEnd()
	c.echo(hello)
}

func TestListenErrorsNameTheAddress(t *testing.T) {
	r := newRole()
	s := start(t, Options{Clients: r})
	dial(t, s).echo(hello) // after this the loops have opened all their files
	files := openFiles(t)
	for addr, want := range map[string]string{
		s.Addr().String(): "address already in use",
		"127.0.0.1:99999": "99999",
		"192.0.2.1:0":     "192.0.2.1",
		"nonsense":        "nonsense",
	} {
		second, err := Start(Options{Addr: addr, Clients: r})
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
	// gnet closes the descriptors of its own loops a moment after it has stopped.
	for deadline := time.Now().Add(30 * time.Second); openFiles(t) > files; {
		if time.Now().After(deadline) {
			t.Fatalf("%d files open, before %d", openFiles(t), files)
		}
		time.Sleep(time.Millisecond) // between two looks at the process
	}
	dial(t, s).echo(hello)
}

// TestKeepAliveIsSet reads the socket options with which the kernel probes a silent
// client.
func TestKeepAliveIsSet(t *testing.T) {
	s := start(t, Options{Clients: newRole()})
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

// serverSide returns the descriptor of the other end of c, among the sockets of this
// process.
func serverSide(t *testing.T, c *client) int {
	t.Helper()
	is := func(got unix.Sockaddr, want net.Addr) bool {
		a, ok := got.(*unix.SockaddrInet4)
		w := want.(*net.TCPAddr).AddrPort()
		return ok && a.Port == int(w.Port()) && a.Addr == w.Addr().As4()
	}
	for fd := range 4096 {
		peer, err := unix.Getpeername(fd)
		if err != nil || !is(peer, c.LocalAddr()) {
			continue
		}
		// The server of a test before may not have closed its end of another client's
		// connection yet, and the system gives the port of that client away again.
		if own, err := unix.Getsockname(fd); err == nil && is(own, c.RemoteAddr()) {
			return fd
		}
	}
	t.Fatal("no socket of the process is the server's end")
	return 0
}

func TestAddressesOfServerAndSession(t *testing.T) {
	r := newRole()
	s := start(t, Options{Addr: ":0", Clients: r})
	_, port, err := net.SplitHostPort(s.Addr().String())
	if err != nil || port == "0" {
		t.Fatalf("address %s: %v", s.Addr(), err)
	}
	c, err := net.Dial("tcp4", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// On a socket for both families the kernel reports an IPv4 address as an IPv6 one.
	if got := next(t, r.sessions).Remote(); got != c.LocalAddr().String() {
		t.Errorf("the session's remote address is %s, the client's is %s", got, c.LocalAddr())
	}
}

// TestFramesFromOtherGoroutines posts frames from many goroutines. They arrive, in order
// for each goroutine, and a fan-out reaches all sessions.
func TestFramesFromOtherGoroutines(t *testing.T) {
	const posters, each = 4, 500
	r := newRole()
	s := start(t, Options{Clients: r, Loops: 2})
	c := dial(t, s)
	target := next(t, r.sessions)
	for p := range posters {
		go func() {
			for i := range each {
				if err := target.PushShared(frameOf(pb.CmdMsgData, uint16(i),
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
			t.Fatalf("goroutine %d: got frame %d, want %d", p, h.Seq, seen[p])
		}
		seen[p]++
	}
	clients := []*client{c}
	for range 9 {
		clients = append(clients, dial(t, s))
		next(t, r.sessions)
	}
	s.Loops(func(l *session.Loop) {
		l.Clients(func(s *session.Client) { s.SendFrame(hello) })
	})
	for _, c := range clients {
		c.want(hello)
	}
}

// TestLongMailboxLeavesTurnsForSockets posts more than fits into one turn. All of it
// runs, and sockets are read in between.
func TestLongMailboxLeavesTurnsForSockets(t *testing.T) {
	r := newRole()
	s := start(t, Options{Clients: r, Loops: 1})
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
	// Tasks that always post another task do not block the sockets.
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

func TestStartNeedsOneKindOfHandler(t *testing.T) {
	for name, opt := range map[string]Options{
		"none": {Addr: "127.0.0.1:0"},
		"both": {Addr: "127.0.0.1:0", Clients: newRole(), Links: links{}},
	} {
		if _, err := Start(opt); !errors.Is(err, errHandlers) {
			t.Errorf("%s: got %v, want %v", name, err, errHandlers)
		}
	}
}

// links is a handler of links that does nothing.
type links struct{ session.LinkHandler }

// TestServerSurvivesAFailingAccept uses up the file descriptors while clients connect. The
// clients are refused, the open connection is served, and the port accepts again as soon as
// descriptors are free.
func TestServerSurvivesAFailingAccept(t *testing.T) {
	r := newRole()
	b := budget.Fixed(1000)
	s := start(t, Options{Clients: r, Budget: b})
	open := dial(t, s)
	open.echo(hello)
	// gnet may still hold the descriptor that it has duplicated. When all places are free, it
	// has closed it.
	for range budget.MaxEnroll {
		b.Enroll()
	}
	for range budget.MaxEnroll {
		b.Enrolled()
	}
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
	free := func() {
		for _, f := range taken {
			f.Close()
		}
		taken = nil
	}
	defer free()
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		taken = append(taken, f)
	}
	for range 3 {
		// This descriptor is the client's, so accept has none.
		last := len(taken) - 1
		if err := taken[last].Close(); err != nil {
			t.Fatal(err)
		}
		taken = taken[:last]
		c := dial(t, s)
		c.wantEnd()
		open.echo(hello)
	}
	free()
	dial(t, s).echo(hello)
	open.echo(hello)
}

func BenchmarkEcho(b *testing.B) {
	for _, pipelined := range []int{1, 32} {
		b.Run(fmt.Sprintf("pipelined=%d", pipelined), func(b *testing.B) {
			s := start(b, Options{Clients: newRole()})
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
