package link

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// ring is servers on real sockets, and a group that may have any of them.
type ring struct {
	*testing.T
	g       *Group
	rigs    map[string]*rig // by address
	dialed  map[string]int  // how often the group opened connections to an address
	arrived chan ringFrame
}

// ringFrame is a message, and the address and the connection on which it arrived; nil: the
// connection was closed.
type ringFrame struct {
	at string
	w  *wire
	m  pb.Message
}

// newRing returns n servers, and their addresses.
func newRing(t *testing.T, n int) (r *ring, names []string) {
	r = &ring{T: t, rigs: map[string]*rig{}, dialed: map[string]int{},
		arrived: make(chan ringFrame, 100)}
	for range n {
		rig := newRig(t)
		names = append(names, rig.addr())
		r.rigs[rig.addr()] = rig
	}
	r.g = NewChangingGroup("db_proxy", nil, func(a Address) []Peer {
		r.dialed[a.Addr]++
		return []Peer{dial(t, Options{Addr: a.Addr})}
	})
	t.Cleanup(func() { r.g.Close() })
	return r, names
}

// set sets the servers, whose addresses are their names, and waits until those that are new are
// connected.
func (r *ring) set(names ...string) {
	r.Helper()
	r.setAddresses(addresses(names)...)
}

// addresses returns servers whose addresses are their names.
func addresses(names []string) (list []Address) {
	for _, n := range names {
		list = append(list, Address{Name: n, Addr: n})
	}
	return list
}

// setAddresses sets the servers, and waits until those that are new are connected.
func (r *ring) setAddresses(list ...Address) {
	r.Helper()
	before := map[string]int{}
	for name, n := range r.dialed {
		before[name] = n
	}
	r.g.SetServers(list)
	for name, n := range r.dialed {
		if n > before[name] {
			w := r.rigs[name].accept()
			go r.read(name, w)
		}
	}
	for _, p := range r.g.Peers() {
		for !p.Up() {
			time.Sleep(time.Millisecond)
		}
	}
}

// read passes on what arrives on a connection.
func (r *ring) read(name string, w *wire) {
	for {
		h, body, err := w.fr.Next()
		if err != nil {
			r.arrived <- ringFrame{at: name}
			return
		}
		m, err := pdu.Decode(h.Command, body)
		if err != nil {
			r.Error(err)
			return
		}
		r.arrived <- ringFrame{name, w, m}
	}
}

// where sends a message and returns the address at which it arrived.
func (r *ring) where(key uint64) string {
	r.Helper()
	if err := r.g.Send(key, 0, text(1, "x")); err != nil {
		r.Fatal(err)
	}
	return (<-r.arrived).at
}

// all returns where the keys 0 to 99 go.
func (r *ring) all() (list []string) {
	for key := range uint64(100) {
		list = append(list, r.where(key))
	}
	return list
}

// keyOf returns a key of a server.
func (r *ring) keyOf(name string) uint64 {
	return uint64(slices.Index(r.all(), name))
}

// TestSetServersMovesFewKeys: a server that joins takes only its own keys, and only those of
// one that leaves move. The connections to the others stay.
func TestSetServersMovesFewKeys(t *testing.T) {
	r, names := newRing(t, 3)
	err := r.g.Send(1, 0, text(1, "x"))
	if r.g.Up() || !r.g.Empty() || im.KindOf(err) != im.Unavailable {
		t.Errorf("without servers: up %v, empty %v, error %v", r.g.Up(), r.g.Empty(), err)
	}
	r.set(names[0], names[1])
	if r.g.Empty() {
		t.Error("empty with two servers")
	}
	two := r.all()
	r.set(names[2], names[1], names[0], names[1])
	for key, at := range r.all() {
		if at != two[key] && at != names[2] {
			t.Errorf("server 2 joined, and key %d moved from %s to %s", key, two[key], at)
		}
	}
	r.set(names[0], names[1])
	if f := <-r.arrived; f.at != names[2] || f.m != nil {
		t.Errorf("got %+v, want the end of the connection to the server that left", f)
	}
	if !slices.Equal(r.all(), two) {
		t.Errorf("keys of the servers that stayed have moved")
	}
	for i, name := range names {
		if r.dialed[name] != 1 {
			t.Errorf("server %d was dialed %d times", i, r.dialed[name])
		}
	}
}

// TestRemovedServerAnswers: a server that leaves may still answer. The next call of a key
// waits for that, and goes to the server that has the key now. Other keys do not wait.
func TestRemovedServerAnswers(t *testing.T) {
	r, names := newRing(t, 2)
	r.set(names...)
	key := r.keyOf(names[1])
	first := ask(nil, r.g, key, 0, statReq(1))
	f := <-r.arrived
	r.set(names[0])
	second := ask(nil, r.g, key, 0, statReq(2))
	if at := r.where(key + 1000); at != names[0] {
		t.Errorf("another key went to %s", at)
	}
	f.w.send(0, statRsp(f.m))
	wantAnswer(t, <-first, 1)
	for range 2 { // the end of the connection, and the second call
		switch f := <-r.arrived; {
		case f.m == nil && f.at == names[1]:
		case f.m != nil && f.at == names[0]:
			f.w.send(0, statRsp(f.m))
		default:
			t.Errorf("%T arrived at %s", f.m, f.at)
		}
	}
	wantAnswer(t, <-second, 2)
	r.g.all.pins.mustBeEmpty(t)

	r.set(names...) // it comes back
	if at := r.where(key); at != names[1] || r.dialed[names[1]] != 2 {
		t.Errorf("key went to %s, and the server was dialed %d times", at, r.dialed[names[1]])
	}
}

// TestServerMoves: the keys of a server that has another address go there. The connection to the
// old address takes the answers that are due.
func TestServerMoves(t *testing.T) {
	r, at := newRing(t, 3)
	a, b, moved := Address{"a", at[0]}, Address{"b", at[1]}, Address{"b", at[2]}
	r.setAddresses(a, b)
	before := r.all()
	key := r.keyOf(at[1])
	due := ask(nil, r.g, key, 0, statReq(1))
	f := <-r.arrived
	r.setAddresses(moved, a)
	for other := range uint64(100) {
		want := at[0]
		if before[other] == at[1] {
			want = at[2]
		}
		if got := r.where(other); got != want {
			t.Errorf("key %d is at %s, want %s", other, got, want)
		}
	}
	f.w.send(0, statRsp(f.m))
	wantAnswer(t, <-due, 1)
	if f := <-r.arrived; f.at != at[1] || f.m != nil {
		t.Errorf("got %+v, want the end of the connection to the old address", f)
	}
	if n := r.dialed[at[0]]; n != 1 {
		t.Errorf("the server that stayed was dialed %d times", n)
	}
}

// TestServerThatLeftAndCameBack: the connection of before takes its answers, while the new
// one has the requests.
func TestServerThatLeftAndCameBack(t *testing.T) {
	r, names := newRing(t, 2)
	r.set(names...)
	key := r.keyOf(names[1])
	first := ask(nil, r.g, key, 0, statReq(1))
	old := <-r.arrived
	r.set(names[0])
	r.set(names...)
	other := key + 1
	for {
		if err := r.g.Send(other, 0, text(1, "x")); err != nil {
			t.Fatal(err)
		}
		if f := <-r.arrived; f.at == names[1] {
			if f.w == old.w {
				t.Error("a request was sent on the connection that ends")
			}
			break
		}
		other++
	}
	old.w.send(0, statRsp(old.m))
	wantAnswer(t, <-first, 1)
	if f := <-r.arrived; f.m != nil || f.at != names[1] {
		t.Errorf("%T arrived at %s, want the end of the old connection", f.m, f.at)
	}
}

// TestCloseWhileAServerLeaves: Close does not wait for the answers of a server that left.
func TestCloseWhileAServerLeaves(t *testing.T) {
	r, names := newRing(t, 2)
	r.set(names...)
	open := ask(nil, r.g, r.keyOf(names[1]), 0, statReq(1))
	<-r.arrived
	r.set(names[0])
	if err := r.g.Close(); err != nil {
		t.Error(err)
	}
	wantKind(t, (<-open).err, im.Closed)
	r.g.SetServers(addresses(names))
	if len(r.g.Peers()) != 1 || r.dialed[names[1]] != 1 {
		t.Error("a closed group was changed")
	}
}

// TestServersLeaveInBothClasses: the members of a class follow the servers of the group.
func TestServersLeaveInBothClasses(t *testing.T) {
	r, names := newRing(t, 2)
	class := r.g.Class(ClassMessage)
	r.set(names...)
	key := r.keyOf(names[1])
	r.set(names[0])
	<-r.arrived // the end of the connection
	if err := class.TryCall(key, 0, text(1, "x"), func(pb.Message, error) {}); err != nil {
		t.Fatal(err)
	}
	if f := <-r.arrived; f.at != names[0] {
		t.Errorf("the call went to %s", f.at)
	}
}

// TestDrainEndsWithTheLastCall: a link that is drained ends when its calls have ended, by
// their timeout at the latest, and does not connect again.
func TestDrainEndsWithTheLastCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, peer := pipeRemote(Options{CallTimeout: 4 * time.Second})
		w := newWire(t, <-peer)
		synctest.Wait() // until the link is up
		open := ask(nil, r, 1, 0, statReq(1))
		w.read()
		began := time.Now()
		go w.waitClosed()
		synctest.Wait()
		go r.Drain()
		synctest.Wait()
		if err := r.Send(1, 0, text(1, "x")); r.Up() || im.KindOf(err) != im.Unavailable {
			t.Errorf("up %v, error %v, want one that is not up", r.Up(), err)
		}
		if res := <-ask(nil, r, 1, 0, statReq(2)); !errors.Is(res.err, ErrNotSent) {
			t.Errorf("a call ended with %v, want ErrNotSent", res.err)
		}
		r.Drain()
		wantKind(t, (<-open).err, im.Unavailable)
		if d := time.Since(began); d < 4*time.Second || d > 6*time.Second {
			t.Errorf("drained after %v, want the timeout of calls", d)
		}
		if len(peer) > 0 {
			t.Error("it has connected again")
		}
	})
}

// TestDrainEndsWithALargeAnswer: the answer that is passed on undecoded ends a drained link at
// once as well, and not when the times of the link are looked at next.
func TestDrainEndsWithALargeAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, peer := pipeRemote(Options{})
		w := newWire(t, <-peer)
		synctest.Wait() // until the link is up
		open := make(chan error, 1)
		r.CallEncoded(nil, 1, 0, statReq(1), func(_ pb.Message, err error) { open <- err })
		_, req := w.read()
		drained := make(chan struct{})
		go func() {
			r.Drain()
			close(drained)
		}()
		synctest.Wait()
		began := time.Now()
		w.send(0, largeRsp(req, 5000))
		go w.waitClosed()
		if err := <-open; err != nil {
			t.Error(err)
		}
		<-drained
		if d := time.Since(began); d != 0 {
			t.Errorf("drained %v after the answer", d)
		}
	})
}

// TestDrainWithoutAConnection: a link that is connecting is drained at once.
func TestDrainWithoutAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRemote(Options{Dial: func(ctx context.Context, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		synctest.Wait()
		began := time.Now()
		r.Drain()
		if d := time.Since(began); d != 0 {
			t.Errorf("drained after %v", d)
		}
	})
}
