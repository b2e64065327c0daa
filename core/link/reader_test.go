package link

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"teamtalk/core/im"
	"teamtalk/core/link/frames"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

func badFrame(cmd pb.Command, body ...byte) []byte {
	b := append(pdu.AppendHeader(nil, cmd, 0), body...)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

func TestBrokenStreamEndsTheConnection(t *testing.T) {
	malformed := badFrame(pb.CmdUsersStatRsp, 0xff, 0xff)
	good := badFrame(pb.CmdMsgServReq)
	incomplete := badFrame(pb.CmdUsersStatRsp) // without the required user_id
	cases := []struct {
		name  string
		bytes []byte
		want  error
	}{
		{"length below the header", []byte{0, 0, 0, 15}, pdu.ErrLength},
		{"length above the limit", []byte{0x7f, 0, 0, 0}, pdu.ErrLength},
		{"http", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), pdu.ErrLength},
		{"three malformed in a row", slices.Concat(malformed, malformed, malformed),
			session.ErrMalformed},
		{"half a frame", nil, io.ErrUnexpectedEOF},
	}
	r := newRig(t)
	h := newRecorder()
	p := dial(t, Options{Addr: r.addr(), Handler: h})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := r.accept()
			<-h.opened
			pending := ask(nil, p, 1, 1, statReq(1))
			// Two malformed frames in a row are tolerated, and any number that lack a
			// field.
			for range 2 {
				w.write(slices.Concat(malformed, malformed, incomplete, incomplete, incomplete,
					good))
				<-h.msgs
			}
			if c.bytes != nil {
				w.write(c.bytes)
				w.waitClosed()
			} else {
				w.read() // an unread request would reset the connection
				w.write(good[:10])
			}
			w.nc.Close()
			if err := <-h.closed; !errors.Is(err, c.want) {
				t.Errorf("closed with %v, want %v", err, c.want)
			}
			wantKind(t, (<-pending).err, im.Unavailable)
		})
	}
	// The next connection works.
	w := r.accept()
	<-h.opened
	w.write(badFrame(0x7777, 1, 2, 3))
	if f := <-h.frames; f.Command != 0x7777 {
		t.Errorf("got frame %v", f)
	}
}

func TestFramesInAnyPieces(t *testing.T) {
	r := newRig(t)
	h := newRecorder()
	dial(t, Options{Addr: r.addr(), Handler: h})
	w := r.accept()
	frame, err := pdu.Append(nil, 3, text(1, strings.Repeat("z", 200)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range frame {
		w.write(frame[i : i+1])
	}
	w.send(4, text(1, strings.Repeat("z", 1<<20)))                   // grows the buffer
	w.write(slices.Concat(frame, frame, frame, frame, frame, frame)) // many at once
	if g := <-h.msgs; g.seq != 3 || len(g.m.(*pb.MsgData).Data) != 200 {
		t.Errorf("got %v", g)
	}
	if g := <-h.msgs; g.seq != 4 || len(g.m.(*pb.MsgData).Data) != 1<<20 {
		t.Errorf("got a message of %d bytes", len(g.m.(*pb.MsgData).Data))
	}
	for range 6 {
		if g := <-h.msgs; g.seq != 3 {
			t.Errorf("got %v", g)
		}
	}
}

// FuzzReader splits any bytes, in any pieces, and compares with pdu.Next in one piece.
// The frames also pass through the rest of a connection.
func FuzzReader(f *testing.F) {
	frame, _ := pdu.Append(nil, 1, text(1, "hello"))
	f.Add(slices.Concat(frame, pdu.AppendHeader(nil, pb.CmdHeartBeat, 0)), byte(3))
	f.Add(badFrame(pb.CmdUsersStatRsp, 0xa2, 1, 12, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0), byte(200))
	f.Add([]byte{0, 0, 0, 15}, byte(1))
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\n"), byte(7))
	f.Fuzz(func(t *testing.T, b []byte, piece byte) {
		const limit = 1 << 16
		r := &Remote{metrics: (*Metrics)(nil).peer(""),
			o: filled(Options{Handler: &nothing{}, Rand: func() uint64 { return 0 }})}
		r.o.setDefaults()
		c := newConn(r, nil)
		fr := frames.New(&pieces{b: b, n: int(piece) + 1}, limit)
		rest := b
		for {
			wh, wbody, n, werr := pdu.Next(rest, limit)
			h, body, err := fr.Next()
			switch {
			case werr != nil:
				if !errors.Is(err, pdu.ErrLength) {
					t.Fatalf("got %v, want %v", err, werr)
				}
				return
			case n == 0:
				want := io.ErrUnexpectedEOF
				if len(rest) == 0 {
					want = io.EOF
				}
				if err != want {
					t.Fatalf("got %v, want %v", err, want)
				}
				return
			case err != nil || h != wh || !slices.Equal(body, wbody):
				t.Fatalf("got %v %x %v, want %v %x", h, body, err, wh, wbody)
			}
			rest = rest[n:]
			if err := c.receive(h, body); err != nil && !errors.Is(err, session.ErrMalformed) {
				t.Fatal(err)
			}
		}
	})
}

// pieces returns its bytes n at a time.
type pieces struct {
	b []byte
	n int
}

func (p *pieces) Read(to []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(to, p.b[:min(p.n, len(p.b))])
	p.b = p.b[n:]
	return n, nil
}

type nothing struct{}

func (*nothing) Open(*session.Link) error                  { return nil }
func (*nothing) Frame(*session.Link, pdu.Header, []byte)   {}
func (*nothing) Message(*session.Link, uint16, pb.Message) {}
func (*nothing) Close(*session.Link, error)                {}
