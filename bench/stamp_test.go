package bench

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

func TestStamp(t *testing.T) {
	now := time.Now().UnixMicro() * 1000
	for _, want := range []stamp{
		{},
		{run: 7, conv: 1, sender: 2, user: 3, number: 4, due: now},
		{run: 255, conv: 1<<24 - 1, sender: 1<<16 - 1, user: 1<<32 - 1, number: 1<<32 - 1,
			due: now},
	} {
		text := []byte(strings.Repeat("x", stampLen+8))
		want.put(text)
		var got stamp
		if !got.parse(text) || got != want || string(text[stampLen:]) != "xxxxxxxx" {
			t.Errorf("%+v was read back as %+v: %s", want, got, text)
		}
		for i := range stampLen {
			changed := bytes.Clone(text)
			changed[i] ^= 1
			if got.parse(changed) && got == want {
				continue // the same letter, so nothing changed
			}
			if got.parse(changed) {
				t.Errorf("the change of byte %d was not detected: %s", i, changed)
			}
		}
	}
	for _, bad := range []string{"", strings.Repeat("A", stampLen-1), strings.Repeat("!", stampLen),
		strings.Repeat("\xff", stampLen)} {
		if new(stamp).parse([]byte(bad)) {
			t.Errorf("%q was accepted as a stamp", bad)
		}
	}
}

func FuzzStamp(f *testing.F) {
	text := make([]byte, stampLen)
	(&stamp{run: 1, conv: 2, sender: 3, user: 4, number: 5, due: 6000}).put(text)
	f.Add(text)
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s stamp
		if !s.parse(b) {
			return
		}
		again := make([]byte, stampLen)
		s.put(again)
		if !bytes.Equal(again, b[:stampLen]) {
			t.Errorf("%q is read as %+v, which is written %q", b[:stampLen], s, again)
		}
	})
}

// FuzzDelivery compares the fields that parse reads with those of the full decoder.
func FuzzDelivery(f *testing.F) {
	m := &pb.MsgData{FromUserID: 1, ToSessionID: 2, MsgID: 3, CreateTime: 4,
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte("text")}
	b, _ := m.AppendBody(nil)
	f.Add(b)
	f.Add([]byte{8})
	f.Fuzz(func(t *testing.T, b []byte) {
		var d delivery
		ok := d.parse(b)
		var m pb.MsgData
		if m.ParseBody(b) == nil && (!ok || d.from != m.FromUserID || d.to != m.ToSessionID ||
			d.id != m.MsgID || d.kind != m.Type || !bytes.Equal(d.data, m.Data)) {
			t.Errorf("%+v, %v; it is %+v", d, ok, m)
		}
		ackOf(b)
		loginOf(b)
	})
}

func TestWire(t *testing.T) {
	frame := appendAck(nil, pb.CmdMsgDataAck, 1, 300, 70000, pb.SessionType_SESSION_TYPE_GROUP)
	want := &pb.IMMsgDataAck{}
	want.SetUserId(1)
	want.SetSessionId(300)
	want.SetMsgId(70000)
	want.SetSessionType(pb.SessionType_SESSION_TYPE_GROUP)
	if b, err := pdu.Append(nil, 0, want); err != nil || !bytes.Equal(b, frame) {
		t.Errorf("ack %x, want %x (%v)", frame, b, err)
	}
	if session, id, ok := ackOf(frame[pdu.HeaderLen:]); !ok || session != 300 || id != 70000 {
		t.Errorf("ack read as %d, %d, %v", session, id, ok)
	}

	res := &pb.IMLoginRes{}
	res.SetServerTime(1)
	res.SetResultCode(pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED)
	res.SetResultString("no")
	b, err := res.AppendBody(nil)
	if err != nil {
		t.Fatal(err)
	}
	if code, text, user, ok := loginOf(b); !ok ||
		code != pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED || text != "no" || user != 0 {
		t.Errorf("login read as %v %q %d %v", code, text, user, ok)
	}
	for _, bad := range []string{"", "\x08", "\x2a\x01\x08\x10\x00"} {
		if _, _, _, ok := loginOf([]byte(bad)); ok {
			t.Errorf("%q was accepted as the answer to a login", bad)
		}
	}
}

// BenchmarkDelivery reads a delivery and answers it, which allocates nothing.
func BenchmarkDelivery(b *testing.B) {
	text := append(make([]byte, stampLen), filler(64)...)
	(&stamp{user: 1, number: 1}).put(text)
	body, _ := (&pb.MsgData{FromUserID: 1, ToSessionID: 2, MsgID: 3, CreateTime: 4,
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: text}).AppendBody(nil)
	var d delivery
	var st stamp
	var ack []byte
	b.ReportAllocs()
	for b.Loop() {
		if !d.parse(body) || !st.parse(d.data) {
			b.Fatal("not parsed")
		}
		ack = appendAck(ack[:0], pb.CmdMsgDataAck, 1, 2, d.id, pb.SessionType_SESSION_TYPE_SINGLE)
	}
}
