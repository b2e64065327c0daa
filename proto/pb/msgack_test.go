package pb

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"
)

// randomAck returns an ack that has most fields.
func randomAck(r *rand.Rand) *IMMsgDataAck {
	m := &IMMsgDataAck{}
	most := func() bool { return r.IntN(20) > 0 }
	value := func() uint32 { return r.Uint32() >> r.UintN(32) }
	if most() {
		m.SetUserId(value())
	}
	if most() {
		m.SetSessionId(value())
	}
	if most() {
		m.SetMsgId(value())
	}
	if most() {
		m.SetSessionType(SessionType(1 + r.IntN(2)))
	}
	if !most() {
		m.SetRefusal(MsgRefusal_MSG_REFUSAL_REJECTED)
	}
	return m
}

// TestAckIsAsGenerated compares the encoding by hand with that of the library, also for
// bytes that were changed at random.
func TestAckIsAsGenerated(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		m := randomAck(r)
		want, wantErr := appendBody(nil, m)
		got, err := m.AppendBody(nil)
		if !bytes.Equal(got, want) || (err == nil) != (wantErr == nil) {
			t.Fatalf("%v is encoded as %x, %v, want %x, %v", m, got, err, want, wantErr)
		}
		if r.IntN(3) == 0 && len(want) > 0 {
			want[r.IntN(len(want))] = byte(r.Uint32())
		}
		if r.IntN(10) == 0 {
			want = want[:r.IntN(len(want)+1)]
		}
		sameAck(t, want)
	}
	sameAck(t, []byte{8, 1, 16, 2, 24, 3, 32, 9})                            // an unknown type
	sameAck(t, []byte{16, 2, 8, 1, 24, 3, 32, 1})                            // another order
	sameAck(t, []byte{8, 1, 16, 2, 24, 3, 32, 1, 40, 5})                     // one more field
	sameAck(t, []byte{8, 0x81, 0x80, 0x80, 0x80, 0x10, 16, 2, 24, 3, 32, 1}) // over 32 bits
}

// sameAck compares the results of both decoders.
func sameAck(t *testing.T, body []byte) {
	t.Helper()
	want, got := &IMMsgDataAck{}, &IMMsgDataAck{}
	got.SetRefusal(MsgRefusal_MSG_REFUSAL_AGAIN) // is overwritten
	wantErr, err := parseBody(body, want), got.ParseBody(body)
	if (err == nil) != (wantErr == nil) ||
		errors.Is(err, ErrIncomplete) != errors.Is(wantErr, ErrIncomplete) {
		t.Fatalf("%x: %v, want %v", body, err, wantErr)
	}
	if err == nil && !proto.Equal(got, want) {
		t.Fatalf("%x is decoded as %v, want %v", body, got, want)
	}
}

// BenchmarkMsgAck encodes and decodes an ack by hand and with the library.
func BenchmarkMsgAck(b *testing.B) {
	ack := func() *IMMsgDataAck {
		m := &IMMsgDataAck{}
		m.SetUserId(100_001)
		m.SetSessionId(100_002)
		m.SetMsgId(1234)
		m.SetSessionType(SessionType_SESSION_TYPE_SINGLE)
		return m
	}
	body, err := ack().AppendBody(nil)
	if err != nil {
		b.Fatal(err)
	}
	out := make([]byte, 0, 64)
	run := func(name string, f func() error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("encode/hand", func() error { _, err := ack().AppendBody(out); return err })
	run("encode/library", func() error { _, err := appendBody(out, ack()); return err })
	run("decode/hand", func() error { return new(IMMsgDataAck).ParseBody(body) })
	run("decode/library", func() error { return parseBody(body, new(IMMsgDataAck)) })
}
