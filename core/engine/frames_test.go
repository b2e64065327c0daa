package engine

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/pdu"
	"teamtalk/core/router"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

var hello = frameOf(pb.CmdMsgData, 7, []byte("hello"))

// TestSegmentsDoNotMatter sends a stream cut into segments of several sizes.
func TestSegmentsDoNotMatter(t *testing.T) {
	var stream []byte
	rnd := rand.New(rand.NewPCG(1, 2))
	for i, size := range []int{0, 1, 84, 0, 5000, 0, 3} {
		body := make([]byte, size)
		for j := range body {
			body[j] = byte(rnd.Uint32())
		}
		stream = append(stream, frameOf(pb.CmdMsgData, uint16(i), body)...)
	}
	r := newRole()
	s := start(t, Options{Clients: r})
	for name, step := range map[string]int{"byte by byte": 1, "seventeen": 17,
		"at once": len(stream)} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, s)
			for i := 0; i < len(stream); i += step {
				c.send(stream[i:min(i+step, len(stream))])
			}
			c.want(stream)
		})
	}
}

// TestTenAnswersLeaveInOneWrite sends ten frames in one segment.
func TestTenAnswersLeaveInOneWrite(t *testing.T) {
	r := newRole()
	reg := prometheus.NewRegistry()
	s := start(t, Options{Clients: r, Registerer: reg})
	c := dial(t, s)
	c.echo(hello)
	before := written(t, reg)
	c.echo(bytes.Repeat(hello, 10))
	if n := written(t, reg) - before; n >= 10 {
		t.Errorf("%v writes for ten answers, want 1", n)
	}
}

func TestLargestFrame(t *testing.T) {
	r := newRole()
	s := start(t, Options{Clients: r, ReadBuffer: 16 << 10})
	c, other := dial(t, s), dial(t, s)
	largest := frameOf(pb.CmdMsgData, 1, make([]byte, pdu.MaxClientFrame-pdu.HeaderLen))
	got := make(chan struct{})
	go func() { // concurrently, because neither side can buffer the whole frame
		defer close(got)
		c.want(largest)
		c.want(hello)
	}()
	c.send(largest)
	c.send(hello)
	<-got
	other.echo(hello)
}

// TestLengthOutOfRangeClosesTheConnection sends the four bytes of a bad length. Other
// connections are not affected.
func TestLengthOutOfRangeClosesTheConnection(t *testing.T) {
	r := newRole()
	s := start(t, Options{Clients: r, Loops: 1})
	other := dial(t, s)
	next(t, r.sessions)
	for name, start := range map[string][]byte{
		"zero":              {0, 0, 0, 0},
		"fifteen":           {0, 0, 0, 15},
		"one above":         {0, 0x11, 0, 1},
		"four GiB":          {0xff, 0xff, 0xff, 0xff},
		"negative as int32": {0x80, 0, 0, 0},
		"a web browser":     []byte("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"),
		"TLS":               {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, s)
			c.echo(hello)
			c.send(start)
			c.wantEnd()
			next(t, r.sessions)
			if e := next(t, r.closed); !errors.Is(e.err, pdu.ErrLength) {
				t.Errorf("closed because of %v", e.err)
			}
			other.echo(hello)
		})
	}
}

func TestFramesBeforeGarbageAreAnswered(t *testing.T) {
	r := newRole()
	s := start(t, Options{Clients: r})
	c := dial(t, s)
	c.send(append(bytes.Clone(hello), "\xff\xff\xff\xff rubbish, and after it a good frame: "+
		string(hello)...))
	c.want(hello)
	c.wantEnd()
}

// TestGarbageAffectsOneConnection sends random bytes. The connection is closed or waits
// for more bytes.
func TestGarbageAffectsOneConnection(t *testing.T) {
	r := newRole()
	s := start(t, Options{Clients: r, Loops: 1})
	other := dial(t, s)
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		c := dial(t, s)
		junk := make([]byte, 1+rnd.IntN(2000))
		for i := range junk {
			junk[i] = byte(rnd.Uint32())
		}
		junk[0] |= 0x80 // out of range in any case
		// The server may close the connection before all bytes are written.
		_, _ = c.Write(junk)
		c.wantEnd()
		other.echo(hello)
	}
}

// TestAnnouncedLengthTakesNoMemory announces long frames without sending them.
func TestAnnouncedLengthTakesNoMemory(t *testing.T) {
	r := newRole()
	s := start(t, Options{Clients: r})
	allocated := func(claim []byte, want func(c *client)) uint64 {
		const n = 100
		clients := make([]*client, n)
		for i := range clients {
			clients[i] = dial(t, s)
			clients[i].echo(hello)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, c := range clients {
			c.send(append(bytes.Clone(hello), claim...))
			want(c)
		}
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / n
	}
	// The echo of the first frame shows that the server has read the length behind it.
	perConn := allocated([]byte{0, 0x10, 0, 0, 0, 1, 0, 0, 0, 3, 3, 1, 0, 1, 0, 0},
		func(c *client) { c.want(hello) })
	if perConn > 64<<10 {
		t.Errorf("an announced frame of 1 MiB took %d bytes", perConn)
	}
	perConn = allocated([]byte{0xff, 0xff, 0xff, 0xff}, func(c *client) {
		c.want(hello)
		// More bytes than the sockets hold, until the server has closed the connection.
		for {
			if _, err := c.Write(make([]byte, 64<<10)); err != nil {
				break
			}
		}
	})
	if perConn > 1<<20 {
		t.Errorf("an announced frame of 4 GiB took %d bytes", perConn)
	}
}

func TestThirdMalformedBodyClosesTheConnection(t *testing.T) {
	r := newRole()
	table := router.New[*session.Client](router.Options{})
	router.Handle(table, router.Public, func(s *session.Client, seq uint16,
		m *pb.MsgData) error {
		return s.Send(seq, m)
	})
	r.frame = table.Frame
	s := start(t, Options{Clients: r})
	c := dial(t, s)
	good, err := pdu.Append(nil, 3, &pb.MsgData{Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT,
		Data: []byte("hi")})
	if err != nil {
		t.Fatal(err)
	}
	bad := frameOf(pb.CmdMsgData, 1, []byte{0xff})
	c.send(append(bytes.Repeat(bad, 2), good...))
	c.want(good)
	c.send(append(bytes.Repeat(bad, 2), good...))
	c.want(good)
	c.send(append(bytes.Repeat(bad, 3), good...))
	c.wantEnd()
	if e := next(t, r.closed); !errors.Is(e.err, session.ErrMalformed) {
		t.Errorf("closed because of %v", e.err)
	}
}

// written returns the number of writes to connections.
func written(t *testing.T, reg *prometheus.Registry) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "teamtalk_session_writes_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatal("the metric of writes is missing")
	return 0
}

// endings is a handler of links that takes nothing, and tells why each ended.
type endings chan error

func (endings) Open(*session.Link) error                        { return nil }
func (endings) Frame(*session.Link, pdu.Header, []byte)         {}
func (endings) Message(_ *session.Link, _ uint16, _ pb.Message) {}
func (e endings) Close(_ *session.Link, err error)              { e <- err }

// TestTooLongFrameBetweenServers reads the errors of links: they name the setting to change.
func TestTooLongFrameBetweenServers(t *testing.T) {
	ended := make(endings, 1)
	s := start(t, Options{Links: ended, MaxFrame: 1000})
	c := dial(t, s)
	c.send([]byte{0, 0, 4, 0, 0, 1, 0, 0, 0, 7, 7, 8, 0, 0, 0, 0})
	if err := <-ended; !errors.Is(err, pdu.ErrLength) ||
		!strings.Contains(err.Error(), "1024 bytes, limit 1000; raise link.max_frame") {
		t.Errorf("the link ended with %v", err)
	}
	c = dial(t, s)
	c.send([]byte{22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3, 0, 0, 0, 0, 0})
	if err := <-ended; !errors.Is(err, pdu.ErrLength) ||
		!strings.Contains(err.Error(), "the peer begins TLS") {
		t.Errorf("the link of a peer with TLS ended with %v", err)
	}
}
