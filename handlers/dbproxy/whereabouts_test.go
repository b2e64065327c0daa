package dbproxy_test

import (
	"bytes"
	"testing"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// TestWhereabouts: only a message server that asks for the whereabouts of a message's users
// receives them. The other answers are, byte for byte, those of a db_proxy that knows of none.
func TestWhereabouts(t *testing.T) {
	known := []byte("whereabouts")
	for _, c := range []struct {
		what        string
		where       []byte // of the store
		asks        bool
		sent        []byte // in the request, which should have none
		fails       bool   // the message is not stored
		whereabouts []byte // in the answer
	}{
		{"asked", known, true, nil, false, known},
		{"asked, nowhere", []byte{}, true, nil, false, []byte{}},
		{"asked, not known", nil, true, nil, false, nil},
		{"asked, not stored", known, true, nil, true, nil},
		{"not asked", known, false, nil, false, nil},
		{"forged", nil, true, []byte("forged"), false, nil},
		{"forged, not asked", known, false, []byte("forged"), false, nil},
		{"forged, not stored", known, true, []byte("forged"), true, nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			h := open(t, options{})
			h.store.mu.Lock()
			h.store.where = c.where
			h.store.mu.Unlock()
			want := *text(1, 2, "a")
			if want.MsgID = 1; c.fails {
				h.store.set(func() error { return im.Errorf(im.Unavailable, "away") })
				want.MsgID = 0
			}
			m := text(1, 2, "a")
			m.WantWhereabouts, m.Whereabouts = c.asks, c.sent
			want.Whereabouts = c.whereabouts
			p := h.dial()
			p.send(7, m)
			_, got, raw := p.read()
			if frame, err := pdu.Append(nil, 7, &want); err != nil || !bytes.Equal(raw, frame) {
				t.Errorf("got %+v, want %+v, %v", got, &want, err)
			}
		})
	}
}

// TestWhereaboutsOfEmbedded: the store of one process knows of no other message server.
func TestWhereaboutsOfEmbedded(t *testing.T) {
	m := text(1, 2, "a")
	m.WantWhereabouts = true
	if rsp := ask[*pb.MsgData](open(t, options{}).dial(), 7, m); rsp.MsgID != 1 ||
		rsp.Whereabouts != nil || rsp.WantWhereabouts {
		t.Errorf("answered %+v", rsp)
	}
}
