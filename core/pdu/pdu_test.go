package pdu

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"teamtalk/proto/pb"
)

// recordedFrames returns frames of the C++ servers and clients, of every kind in the
// recordings.
func recordedFrames(tb testing.TB) [][]byte {
	tb.Helper()
	f, err := os.Open("../../proto/pb/testdata/recorded.jsonl")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var frames [][]byte
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r struct{ Frame string }
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			tb.Fatal(err)
		}
		frame, err := hex.DecodeString(r.Frame)
		if err != nil {
			tb.Fatal(err)
		}
		frames = append(frames, frame)
	}
	if err := lines.Err(); err != nil || len(frames) == 0 {
		tb.Fatal(len(frames), err)
	}
	return frames
}

func TestRecordedFramesEncodeToTheSameBytes(t *testing.T) {
	var stream, again []byte
	for _, frame := range recordedFrames(t) {
		stream = append(stream, frame...)
	}
	for rest := stream; len(rest) > 0; {
		h, body, n, err := Next(rest, MaxServerFrame)
		if err != nil || n == 0 {
			t.Fatal(n, err)
		}
		m, err := Decode(h.Command, body)
		if err != nil {
			t.Fatal(err)
		}
		if again, err = Append(again, h.Seq, m); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if !bytes.Equal(again, stream) {
		t.Error("the encoded frames differ from the recorded ones")
	}
}

func TestNextCutsFrames(t *testing.T) {
	frame := AppendHeader(nil, pb.CmdMsgDataAck, 0xabcd)
	frame = append(frame, "body"...)
	binary.BigEndian.PutUint32(frame, 20)
	two := append(bytes.Clone(frame), frame...)
	length := func(n uint32) []byte {
		b := bytes.Clone(frame)
		binary.BigEndian.PutUint32(b, n)
		return b
	}
	whole := Header{Length: 20, Command: pb.CmdMsgDataAck, Seq: 0xabcd}
	for name, c := range map[string]struct {
		in    []byte
		limit int
		h     Header
		body  string
		n     int
		err   error
	}{
		"nothing":                   {in: nil, limit: 100},
		"three bytes":               {in: frame[:3], limit: 100},
		"the length":                {in: frame[:4], limit: 100, h: Header{Length: 20}},
		"all but one of the header": {in: frame[:15], limit: 100, h: Header{Length: 20}},
		"the header":                {in: frame[:16], limit: 100, h: whole},
		"all but one":               {in: frame[:19], limit: 100, h: whole},
		"one frame":                 {in: frame, limit: 100, h: whole, body: "body", n: 20},
		"two frames":                {in: two, limit: 100, h: whole, body: "body", n: 20},
		"at the limit":              {in: frame, limit: 20, h: whole, body: "body", n: 20},
		"one above the limit": {in: frame, limit: 19, h: Header{Length: 20},
			err: ErrLength},
		"above the limit, four bytes": {in: frame[:4], limit: 19, h: Header{Length: 20},
			err: ErrLength},
		"no body": {in: length(16), limit: 100, h: Header{16, pb.CmdMsgDataAck, 0xabcd},
			n: 16},
		"length 15": {in: length(15), limit: 100, h: Header{Length: 15}, err: ErrLength},
		"length 0":  {in: length(0), limit: 100, h: Header{}, err: ErrLength},
		"length 4 GiB": {in: length(1<<32 - 1), limit: MaxServerFrame, h: Header{Length: 1<<32 - 1},
			err: ErrLength},
	} {
		t.Run(name, func(t *testing.T) {
			h, body, n, err := Next(c.in, c.limit)
			if h != c.h || string(body) != c.body || n != c.n || !errors.Is(err, c.err) {
				t.Errorf("got %+v, %q, %d, %v; want %+v, %q, %d, %v", h, body, n, err, c.h, c.body,
					c.n, c.err)
			}
			if cap(body) != len(body) {
				t.Error("the body's capacity reaches into the next frame")
			}
		})
	}
}

func TestHeaderFieldsInOrder(t *testing.T) {
	frame, err := Append([]byte("before"), 0x1234,
		&pb.MsgData{Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT})
	if err != nil {
		t.Fatal(err)
	}
	want := "before" + "\x00\x00\x00\x1c" + "\x00\x01" + "\x00\x00" + "\x00\x03" + "\x03\x01" +
		"\x12\x34" + "\x00\x00" +
		"\x08\x00\x10\x00\x18\x00\x20\x00\x28\x01\x32\x00"
	if string(frame) != want {
		t.Errorf("got\n%x, want\n%x", frame, want)
	}
	// Version, flag, service id and reserved are ignored.
	for _, i := range []int{4, 5, 6, 7, 8, 9, 14, 15} {
		odd := bytes.Clone(frame[6:])
		odd[i] ^= 0xff
		if h, _, n, err := Next(odd, 100); err != nil || n != 28 ||
			h != (Header{28, pb.CmdMsgData, 0x1234}) {
			t.Errorf("byte %d changed: %+v, %d, %v", i, h, n, err)
		}
	}
}

// unencodable returns an error and no slice.
type unencodable struct{ pb.Message }

var errNoField = errors.New("no field")

func (unencodable) Command() pb.Command                 { return pb.CmdMsgData }
func (unencodable) AppendBody(b []byte) ([]byte, error) { return nil, errNoField }

func TestAppendErrorsKeepTheBuffer(t *testing.T) {
	before := []byte("before")
	if b, err := Append(before, 1, unencodable{}); string(b) != "before" ||
		!errors.Is(err, errNoField) {
		t.Errorf("got %q, %v", b, err)
	}
	if b, err := Append(before, 1, &pb.IMMsgDataAck{}); string(b) != "before" || err == nil {
		t.Errorf("required fields missing: got %q, %v", b, err)
	}
}

func TestTooLong(t *testing.T) {
	if err := TooLong(pb.CmdMsgData, 100, 100); err != nil {
		t.Error(err)
	}
	if err := TooLong(pb.CmdMsgData, 101, 100); !errors.Is(err, ErrLength) {
		t.Errorf("got %v, want ErrLength", err)
	}
}

func TestDecodeErrors(t *testing.T) {
	if m, err := Decode(0x0799, nil); m != nil || !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown command: %v, %v", m, err)
	}
	if m, err := Decode(pb.CmdMsgData, []byte{1}); m != nil || err == nil ||
		errors.Is(err, ErrUnknown) {
		t.Errorf("garbage: %v, %v", m, err)
	}
}

// FuzzNext cuts a stream as a whole and in steps. Both give the same frames, lose no byte
// and exceed no limit.
func FuzzNext(f *testing.F) {
	f.Add([]byte{}, uint16(100), uint8(1))
	for i, frame := range recordedFrames(f) {
		f.Add(append(bytes.Clone(frame), frame...), uint16(4000), uint8(i))
	}
	f.Fuzz(func(t *testing.T, stream []byte, limit uint16, step uint8) {
		whole, wholeErr := cut(t, stream, int(limit), len(stream))
		trickled, err := cut(t, stream, int(limit), int(step)+1)
		if !bytes.Equal(whole, trickled) || (wholeErr == nil) != (err == nil) {
			t.Fatalf("whole: %d bytes, %v; in steps of %d: %d bytes, %v", len(whole), wholeErr,
				step, len(trickled), err)
		}
		if !bytes.HasPrefix(stream, whole) {
			t.Fatal("the frames are not the stream")
		}
	})
}

// cut reads stream, which grows by step bytes at a time, and returns the frames one after
// the other.
func cut(t *testing.T, stream []byte, limit, step int) ([]byte, error) {
	var frames []byte
	for end := 0; end < len(stream); {
		end = min(end+step, len(stream))
		for {
			rest := stream[len(frames):end]
			h, body, n, err := Next(rest, limit)
			if err != nil {
				return frames, err
			}
			if n == 0 {
				break
			}
			if n > limit || n != len(body)+HeaderLen || int(h.Length) != n {
				t.Fatalf("frame of %d bytes, body %d, length %d, limit %d", n, len(body), h.Length,
					limit)
			}
			frames = append(frames, rest[:n]...)
		}
	}
	return frames, nil
}

// FuzzDecode decodes any frame. A message that decodes encodes to the same bytes twice.
func FuzzDecode(f *testing.F) {
	for _, frame := range recordedFrames(f) {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		h, body, n, err := Next(stream, MaxClientFrame)
		if err != nil || n == 0 {
			return
		}
		m, err := Decode(h.Command, body)
		if err != nil {
			return
		}
		first, err := Append(nil, h.Seq, m)
		if err != nil {
			t.Fatalf("decoded, but does not encode: %v", err)
		}
		h2, body, n, err := Next(first, MaxServerFrame)
		if err != nil || n != len(first) || h2.Command != h.Command || h2.Seq != h.Seq {
			t.Fatalf("%+v became %+v, %d, %v", h, h2, n, err)
		}
		if m, err = Decode(h.Command, body); err != nil {
			t.Fatal(err)
		}
		if second, err := Append(nil, h.Seq, m); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("encodes differently the second time: %x, %x, %v", first, second, err)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	m := &pb.MsgData{FromUserID: 10007, ToSessionID: 10011, MsgID: 52311, CreateTime: 1763900000,
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: bytes.Repeat([]byte("a"), 88)}
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Append(buf, 1, m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNext cuts ten frames that arrived in one segment.
func BenchmarkNext(b *testing.B) {
	var stream []byte
	for range 10 {
		var err error
		if stream, err = Append(stream, 1, &pb.MsgData{Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT,
			Data: make([]byte, 88)}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		for rest := stream; len(rest) > 0; {
			_, _, n, err := Next(rest, MaxClientFrame)
			if err != nil {
				b.Fatal(err)
			}
			rest = rest[n:]
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*10), "ns/frame")
}
