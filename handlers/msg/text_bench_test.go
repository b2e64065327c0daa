package msg

import (
	"net/netip"
	"sync"
	"testing"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// benchDB stores every message at once, under the next id.
type benchDB struct{ next uint32 }

// Up reports that it is connected.
func (*benchDB) Up() bool { return true }

// Withdrawn reports that it has not.
func (*benchDB) Withdrawn() bool { return false }

// Send is not used.
func (*benchDB) Send(uint64, uint16, pb.Message) error { return nil }

// Call is not used.
func (*benchDB) Call(*session.Loop, uint64, uint16, pb.Attachment, func(pb.Message, error)) {}

// TryCall answers on the caller's goroutine.
func (db *benchDB) TryCall(_ uint64, _ uint16, req pb.Attachment,
	done func(pb.Message, error)) error {
	db.next++
	m := req.(*pb.MsgData)
	m.MsgID = db.next
	done(m, nil)
	return nil
}

// BenchmarkText sends texts of 64 bytes from one client to another on the same loop: from
// the frame of the sender to the ack and the delivery, without the kernel and the store.
func BenchmarkText(b *testing.B) {
	h, err := New(filled(Options{RedeliverAfter: -1, Rate: -1}))
	if err != nil {
		b.Fatal(err)
	}
	db := &benchDB{}
	h.Connect(db, db, db)
	l := newBenchLoop(b, h)
	var from *session.Client
	for user := uint32(1); user <= 2; user++ {
		l.do(func() {
			s := l.AddClient(netip.AddrPort{}, &sink{})
			if err := h.Open(s); err != nil {
				b.Error(err)
			}
			s.SetLoggedIn(user, win)
			h.online.Add(s)
			if user == 1 {
				from = s
			}
		})
	}
	frame, err := pdu.Append(nil, 0, text(2, string(make([]byte, 64))))
	if err != nil {
		b.Fatal(err)
	}
	head := pdu.ParseHeader(frame)
	const burst = 16
	b.ReportAllocs()
	for b.Loop() {
		var wg sync.WaitGroup
		wg.Add(1)
		l.Post(func() {
			for range burst {
				l.Deliver(&from.Conn, head, frame[pdu.HeaderLen:])
			}
			l.Post(wg.Done)
		})
		wg.Wait()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/burst, "ns/text")
}
