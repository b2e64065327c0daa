package frames

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"testing"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// TestReadBufferShrinksAfterLargeFrame: a large frame takes memory only until it was read.
func TestReadBufferShrinksAfterLargeFrame(t *testing.T) {
	big := append(pdu.AppendHeader(nil, pb.CmdMsgData, 0), make([]byte, 1<<20)...)
	binary.BigEndian.PutUint32(big, uint32(len(big)))
	small := pdu.AppendHeader(nil, pb.CmdHeartBeat, 0)
	fr := New(bytes.NewReader(slices.Concat(big, small, small[:7])), 2<<20)
	for _, want := range []int{len(big), len(small)} {
		if h, _, err := fr.Next(); err != nil || int(h.Length) != want {
			t.Fatalf("got %v %v", h, err)
		}
	}
	if _, _, err := fr.Next(); err != io.ErrUnexpectedEOF {
		t.Fatal(err)
	}
	if len(fr.buf) != readBuffer {
		t.Errorf("the buffer still has %d bytes", len(fr.buf))
	}
	// A length field alone does not grow the buffer.
	fr = New(bytes.NewReader([]byte{3, 0, 0, 0}), pdu.MaxServerFrame)
	if _, _, err := fr.Next(); err != io.ErrUnexpectedEOF || len(fr.buf) != readBuffer {
		t.Errorf("%v; the buffer has %d bytes", err, len(fr.buf))
	}
}
