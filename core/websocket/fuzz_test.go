package websocket

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/gobwas/ws"
	"github.com/google/go-cmp/cmp"
)

// FuzzFrames reads any bytes in pieces, and compares the result with that of another reader.
func FuzzFrames(f *testing.F) {
	f.Add(join(frame(begin, []byte("a")), frame(pings, []byte("p")), frame(last, []byte("b"))), 3)
	f.Add(join(frame(binaryFin, make([]byte, 300)), frame(closes, []byte{3, 0xE8})), 1)
	f.Add(frame(pongs, make([]byte, 125)), 50)
	f.Add([]byte{binaryFin, 0xFF, 0, 0, 0, 0, 0, 1, 0x11, 0x71}, 9)
	f.Fuzz(func(t *testing.T, p []byte, step int) {
		want, wantErr := reference(p)
		all, err := read(p, max(1, step))
		if (err == nil) != (wantErr == nil) ||
			errors.Is(err, ErrTooLong) != errors.Is(wantErr, ErrTooLong) {
			t.Errorf("error %v, the other reader has %v", err, wantErr)
		}
		if !cmp.Equal(all, want) {
			t.Errorf("differs: %s", cmp.Diff(want, all))
		}
	})
}

// reference reads p with the reader of gobwas.
func reference(p []byte) (all []got, err error) {
	in := bytes.NewReader(bytes.Clone(p))
	var parts []byte
	state := ws.StateServerSide
	for {
		at := in.Len()
		h, err := ws.ReadHeader(in)
		if err != nil && at >= shortest {
			// ReadHeader wants the whole header before it looks at what it has.
			b := p[len(p)-at:]
			h = ws.Header{Fin: b[0]&bitFin != 0, Rsv: b[0] & bitsRsv >> 4,
				OpCode: ws.OpCode(b[0] & bitsOp), Masked: b[1]&bitMask != 0,
				Length: int64(b[1] & bitsLen)}
			if wrong := ws.CheckHeader(h, state); wrong != nil {
				return all, wrong
			}
		}
		if errors.Is(err, ws.ErrHeaderLengthUnexpected) || errors.Is(err, ws.ErrHeaderLengthMSB) {
			return all, ErrTooLong
		}
		if err != nil {
			return all, nil
		}
		if err := ws.CheckHeader(h, state); err != nil {
			return all, err
		}
		if h.Length > int64(limit-len(parts)) && !h.OpCode.IsControl() {
			return all, ErrTooLong
		}
		body := make([]byte, h.Length)
		if _, err := io.ReadFull(in, body); err != nil {
			return all, nil
		}
		ws.Cipher(body, h.Mask, 0)
		switch {
		case h.OpCode == ws.OpPing:
			all = append(all, got{Ping, string(body), 0})
		case h.OpCode == ws.OpClose && len(body) == 0:
			return append(all, got{Close, "", CodeNone}), nil
		case h.OpCode == ws.OpClose:
			code, reason := ws.ParseCloseFrameData(body)
			if !validCode(int(code)) {
				return all, ErrProtocol
			}
			// gobwas has a shorter list of codes.
			if err := ws.CheckCloseFrameData(ws.StatusNormalClosure, reason); err != nil {
				return all, err
			}
			return append(all, got{Close, reason, int(code)}), nil
		case h.OpCode == ws.OpPong:
		case !h.Fin:
			parts, state = append(parts, body...), state.Set(ws.StateFragmented)
		default:
			all = append(all, got{Message, string(parts) + string(body), 0})
			parts, state = nil, state.Clear(ws.StateFragmented)
		}
	}
}

// FuzzHead answers any bytes as a request.
func FuzzHead(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		n, err := Head(p)
		if err != nil || n == 0 {
			return
		}
		if n > MaxHead || n > len(p) {
			t.Fatalf("a head of %d bytes, %d have arrived", n, len(p))
		}
		answer, err := Accept(bytes.Clone(p[:n]), &Origins{})
		if accepted := bytes.HasPrefix(answer, []byte("HTTP/1.1 101 ")); accepted != (err == nil) {
			t.Errorf("%v, answer %q", err, answer)
		}
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 ")) || !bytes.Contains(answer, headEnd) {
			t.Errorf("no answer of HTTP: %q", answer)
		}
		if err == nil && bytes.Count(answer, headEnd) != 1 {
			t.Errorf("an accepted answer with a body: %q", answer)
		}
	})
}

// FuzzWriter writes a stream in two pieces, and reads the messages again.
func FuzzWriter(f *testing.F) {
	f.Add(uint16(16), uint32(70_000), 2, 20)
	f.Fuzz(func(t *testing.T, a uint16, b uint32, first, second int) {
		x, y := max(4, int(a)), max(4, int(b)%(1<<17))
		stream := pdus(x, y)
		first = max(0, min(first, len(stream)))
		second = max(first, min(second, len(stream)))
		var w Writer
		var out []byte
		for _, p := range [][]byte{stream[:first], stream[first:second], stream[second:]} {
			out = framed(&w, out, p)
		}
		lengths, got := unframe(t, out)
		if !cmp.Equal(lengths, []int{x, y}) || !bytes.Equal(got, stream) || !w.Between() {
			t.Errorf("messages of %v bytes, want %d and %d", lengths, x, y)
		}
	})
}
