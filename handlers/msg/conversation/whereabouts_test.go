package conversation

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"teamtalk/core/mono"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/waits"
	"teamtalk/proto/pb"
)

// othersStand keeps what is forwarded.
type othersStand struct {
	Others
	forwarded []*pb.MsgData
}

// Alone returns false.
func (*othersStand) Alone() bool { return false }

// Forward keeps m.
func (o *othersStand) Forward(m pb.Message) bool {
	o.forwarded = append(o.forwarded, m.(*pb.MsgData))
	return true
}

// pushesStand keeps the message that was stored last.
type pushesStand struct{ m *pb.MsgData }

// Stored keeps m.
func (p *pushesStand) Stored(m *pb.MsgData, _ []uint32) { p.m = m }

// TestForwardHasWhereabouts: the other message servers get db_proxy's whereabouts with the
// message, if they are wanted, and nothing else here does.
func TestForwardHasWhereabouts(t *testing.T) {
	for what, c := range map[string]struct {
		want            bool
		answered, found []byte
	}{
		"wanted":                 {true, []byte("where"), []byte("where")},
		"wanted, nowhere":        {true, []byte{}, []byte{}},
		"wanted, not known":      {true, nil, nil},
		"answered, and unwanted": {false, []byte("where"), nil},
	} {
		t.Run(what, func(t *testing.T) {
			others, pushes := &othersStand{}, &pushesStand{}
			h, err := New(Options{Ack: AckStored, Whereabouts: c.want, Others: others,
				Pushes: pushes, Online: session.NewRegistry(), Now: mono.Now,
				AfterFunc: mono.AfterFunc, Since: func(time.Duration) uint64 { return 0 },
				Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			loop := session.NewLoop(session.LoopOptions{Wake: func(*session.Loop, bool) {}})
			from := loop.AddClient(netip.AddrPort{}, nil)
			h.userStored(Message{from: from, data: &pb.MsgData{FromUserID: 1, ToSessionID: 2,
				MsgID: 3, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte("text"),
				WantWhereabouts: true, Whereabouts: c.answered}}, waits.None)
			m := others.forwarded[0]
			if string(m.Whereabouts) != string(c.found) ||
				(m.Whereabouts == nil) != (c.found == nil) || m.WantWhereabouts {
				t.Errorf("forwarded %+v", m)
			}
			if pushes.m.Whereabouts != nil || pushes.m.WantWhereabouts {
				t.Errorf("for pushes %+v", pushes.m)
			}
		})
	}
}
