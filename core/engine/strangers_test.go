package engine

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"teamtalk/core/budget"
	"teamtalk/core/opt/opttest"
	"teamtalk/core/origin"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// strangers returns Strangers with the given options. The others bound nothing that a test
// reaches.
func strangers(o StrangerOptions) *Strangers {
	return NewStrangers(opttest.Fill(o, StrangerOptions{Reserved: 25, Memory: 1 << 30}))
}

// doorRole logs a client in with its first frame of command CmdMsgData, and echoes all.
func doorRole() *role {
	r := newRole()
	r.frame = func(s *session.Client, h pdu.Header, body []byte) {
		if h.Command == pb.CmdMsgData && !s.LoggedIn() {
			s.SetLoggedIn(7, pb.ClientType_CLIENT_TYPE_MAC)
		}
		s.SendFrame(frameOf(h.Command, h.Seq, body))
	}
	return r
}

var (
	silent = frameOf(pb.CmdHeartBeat, 3, nil)
	logIn  = frameOf(pb.CmdMsgData, 4, nil)
)

// TestAFullPortLetsClientsLogIn lets one address fill a port again before each login. All
// clients log in, and none of them is closed.
func TestAFullPortLetsClientsLogIn(t *testing.T) {
	const places, logins = 40, 30
	for name, o := range map[string]Options{
		"port":    {MaxConns: places},
		"process": {Budget: budget.Fixed(places)},
	} {
		t.Run(name, func(t *testing.T) {
			o.Clients, o.Strangers = doorRole(), strangers(StrangerOptions{})
			s := start(t, o)
			var clients []*client
			for range logins {
				for range places {
					dial(t, s)
				}
				c := dial(t, s)
				c.echo(logIn)
				clients = append(clients, c)
			}
			for _, c := range clients {
				c.echo(silent)
			}
		})
	}
}

// asks is a frame that is no heartbeat and no login.
var asks = frameOf(pb.CmdMsgDataAck, 5, nil)

// TestTheLongestWaitingMakesRoom closes the stranger that has been silent since its connect
// or its first request longest. Heartbeats and further requests keep no place.
func TestTheLongestWaitingMakesRoom(t *testing.T) {
	s := start(t, Options{Clients: doorRole(), MaxConns: 4,
		Strangers: strangers(StrangerOptions{})})
	a, b, c := dial(t, s), dial(t, s), dial(t, s)
	for _, x := range []*client{a, b, c} {
		x.echo(silent)
	}
	a.echo(asks) // so b is the oldest
	b.echo(silent)
	d := dial(t, s) // three of four places are for strangers
	b.wantEnd()
	d.echo(asks)
	a.echo(asks)
	c.echo(silent)
	e := dial(t, s) // c is the oldest, then a
	c.wantEnd()
	a.echo(asks)
	f := dial(t, s)
	a.wantEnd()
	for _, x := range []*client{d, e, f} {
		x.echo(silent)
	}
}

// TestOneAddressClosesItsOwn lets one address fill the port, or the process by another port.
// The silent client of another address connected before, and stays.
func TestOneAddressClosesItsOwn(t *testing.T) {
	const places = 20
	for name, o := range map[string]Options{
		"port":    {MaxConns: places},
		"process": {Budget: budget.Fixed(places)},
	} {
		t.Run(name, func(t *testing.T) {
			o.Clients, o.Strangers = doorRole(), strangers(StrangerOptions{})
			s := start(t, o)
			crowded := s
			if name == "process" {
				crowded = start(t, o)
			}
			page := dialFrom(t, s, "127.0.0.2")
			var crowd []*client
			for range 5 * places {
				c := dial(t, crowded)
				c.echo(asks)
				crowd = append(crowd, c)
			}
			crowd[places].wantEnd()
			page.echo(logIn)
		})
	}
}

// TestHeartbeatsDoNotReplaceALogin closes a stranger at its deadline, although it sends
// heartbeats.
func TestHeartbeatsDoNotReplaceALogin(t *testing.T) {
	clock, r := newClock(), doorRole()
	r.open = func(s *session.Client) error {
		s.SetDeadline(15 * time.Second)
		return nil
	}
	s := start(t, Options{Clients: r, Now: clock.now, AfterFunc: clock.afterFunc,
		Strangers: strangers(StrangerOptions{})})
	c := dial(t, s)
	for range 14 {
		c.echo(silent)
		clock.advance(time.Second)
	}
	c.echo(silent)
	clock.advance(time.Second)
	c.wantEnd()
	if e := next(t, r.closed); e.err != session.ErrLoginDeadline {
		t.Errorf("closed because of %v", e.err)
	}
}

// TestClientsWithALoginKeepTheirPlaces refuses strangers when there is none to close.
func TestClientsWithALoginKeepTheirPlaces(t *testing.T) {
	s := start(t, Options{Clients: doorRole(), MaxConns: 3,
		Strangers: strangers(StrangerOptions{})})
	var clients []*client
	for range 3 {
		c := dial(t, s)
		c.echo(logIn)
		clients = append(clients, c)
	}
	dial(t, s).wantEnd()
	for _, c := range clients {
		c.echo(silent)
	}
}

func TestPerAddressClosesAnOlderOne(t *testing.T) {
	s := start(t, Options{Clients: doorRole(),
		Strangers: strangers(StrangerOptions{PerAddress: 2})})
	a, b := dial(t, s), dial(t, s)
	a.echo(silent)
	b.echo(logIn)
	c := dial(t, s)
	c.echo(silent)
	a.echo(asks) // b does not count any more
	dial(t, s).echo(silent)
	c.wantEnd()
	b.echo(silent)
}

func TestRateOfAnAddress(t *testing.T) {
	clock := newClock()
	o := StrangerOptions{Rate: 1, Burst: 2, Now: clock.now}
	s := start(t, Options{Clients: doorRole(), Strangers: strangers(o)})
	dial(t, s).echo(silent)
	dial(t, s).echo(silent)
	dial(t, s).wantEnd()
	clock.advance(time.Second)
	dial(t, s).echo(silent)
	dial(t, s).wantEnd()

	o.PerAddress, o.Trusted = 1, origin.Networks{netip.MustParsePrefix("127.0.0.0/8")}
	s = start(t, Options{Clients: doorRole(), Strangers: strangers(o)})
	var all []*client
	for range 5 {
		all = append(all, dial(t, s))
	}
	for _, c := range all {
		c.echo(silent)
	}
}

// partOf returns the first bytes of a frame of n bytes.
func partOf(frame, n int) []byte {
	b := append(pdu.AppendHeader(nil, pb.CmdHeartBeat, 1), make([]byte, n-pdu.HeaderLen)...)
	binary.BigEndian.PutUint32(b, uint32(frame))
	return b
}

// TestFramesBeforeTheLoginAreShort closes a stranger that announces a frame above 64 KiB. A
// client with a login may send it.
func TestFramesBeforeTheLoginAreShort(t *testing.T) {
	s := start(t, Options{Clients: doorRole(), Strangers: strangers(StrangerOptions{})})
	longest := partOf(MaxStrangerFrame, MaxStrangerFrame)
	dial(t, s).echo(longest)
	c := dial(t, s)
	c.send(partOf(MaxStrangerFrame+1, pdu.HeaderLen))
	c.wantEnd()
	c = dial(t, s)
	c.echo(logIn)
	c.echo(partOf(MaxStrangerFrame+1, MaxStrangerFrame+1))
}

// TestMemoryOfStrangers bounds the bytes of parts of frames over all strangers. The one that
// has held its bytes longest is closed.
func TestMemoryOfStrangers(t *testing.T) {
	const part, most = 32 << 10, 100 << 10
	st := strangers(StrangerOptions{Memory: most})
	// Two ports share the bound.
	ports := []*Server{start(t, Options{Clients: doorRole(), Strangers: st}),
		start(t, Options{Clients: doorRole(), Strangers: st})}
	quiet := dial(t, ports[0])
	quiet.echo(silent)
	var held []*client
	for i := range 8 {
		c := dial(t, ports[i%2])
		c.send(partOf(MaxStrangerFrame, part))
		held = append(held, c)
		for i < 3 && st.Bytes() < int64(i+1)*part {
			time.Sleep(time.Millisecond) // no event reports that the bytes have arrived
		}
		if i >= 3 {
			held[i-3].wantEnd()
		}
		if n := st.Bytes(); n > most {
			t.Fatalf("%d bytes held, the bound is %d", n, most)
		}
	}
	quiet.echo(silent)
	// The rest of the frame ends the hold.
	c := held[7]
	c.send(make([]byte, MaxStrangerFrame-part))
	c.want(partOf(MaxStrangerFrame, MaxStrangerFrame))
}

// TestStrangerThatDoesNotRead closes a stranger that leaves its answers unread, long before
// MaxBuffered.
func TestStrangerThatDoesNotRead(t *testing.T) {
	r, answered := doorRole(), make(chan struct{}, 1)
	r.frame = func(s *session.Client, h pdu.Header, body []byte) {
		s.SendFrame(frameOf(h.Command, h.Seq, make([]byte, 32<<10)))
		answered <- struct{}{}
	}
	s := start(t, Options{Clients: r, MaxBuffered: 1 << 30,
		Strangers: strangers(StrangerOptions{})})
	c := dial(t, s)
	// The kernel holds little, so that few answers fill it.
	if err := c.Conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	for {
		_, _ = c.Write(silent) // fails when the server has closed the connection
		select {
		case <-answered:
			continue
		case e := <-r.closed:
			if e.err != session.ErrSlow {
				t.Errorf("closed because of %v", e.err)
			}
		case <-time.After(patience):
			t.Fatal("the server did not close the connection")
		}
		return
	}
}
