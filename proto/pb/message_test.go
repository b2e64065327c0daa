package pb_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"teamtalk/proto/pb"
)

// recorded is a frame between the C++ servers and clients.
type recorded struct {
	Link, Dir, Command, Frame string
}

// recordedFrames reads testdata/recorded.jsonl. It has one frame of each shape (command,
// link, fields present) of a long recording, without frames above 1,200 bytes where
// shorter ones have the same shape.
func recordedFrames(tb testing.TB) map[string][]byte {
	tb.Helper()
	f, err := os.Open("testdata/recorded.jsonl")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	frames := map[string][]byte{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r recorded
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			tb.Fatal(err)
		}
		frame, err := hex.DecodeString(r.Frame)
		if err != nil {
			tb.Fatal(err)
		}
		frames[r.Frame] = frame
	}
	if err := lines.Err(); err != nil {
		tb.Fatal(err)
	}
	return frames
}

func commandOf(frame []byte) pb.Command { return pb.Command(binary.BigEndian.Uint16(frame[10:])) }

// TestRecordedFramesEncodeToTheSameBytes decodes the frames of the C++ servers and
// encodes them again.
func TestRecordedFramesEncodeToTheSameBytes(t *testing.T) {
	seen := map[pb.Command]bool{}
	for _, frame := range recordedFrames(t) {
		cmd, body := commandOf(frame), frame[16:]
		seen[cmd] = true
		m := pb.New(cmd)
		if m == nil {
			t.Errorf("%s: no message", cmd)
			continue
		}
		if m.Command() != cmd {
			t.Errorf("%s: the message's command is %s", cmd, m.Command())
		}
		if err := m.ParseBody(bytes.Clone(body)); err != nil {
			t.Errorf("%s: %v", cmd, err)
			continue
		}
		again, err := m.AppendBody(nil)
		if err != nil {
			t.Errorf("%s: %v", cmd, err)
		}
		if !bytes.Equal(again, body) {
			t.Errorf("%s: encoded again\n%x\nrecorded\n%x", cmd, again, body)
		}
		if p, ok := m.(proto.Message); ok {
			if unknown := p.ProtoReflect().GetUnknown(); len(unknown) > 0 {
				t.Errorf("%s: unknown fields: %x", cmd, unknown)
			}
		}
	}
	// The recording has none of these. The last thirteen exist only in this project.
	notRecorded := []pb.Command{0x0101, 0x0102, 0x0208, 0x0209, 0x020c, 0x020d, 0x0212, 0x0702,
		0x070f, 0x0710, 0x0735, 0x0736, 0x0737, 0x0738, 0x0739, 0x073a,
		0x073b, 0x073c, 0x073d, 0x073e, 0x073f, 0x050d, 0x050e}
	for _, cmd := range pb.Commands() {
		if seen[cmd] == slices.Contains(notRecorded, cmd) {
			t.Errorf("%s: recorded %v", cmd, seen[cmd])
		}
	}
}

// TestEveryMessageRoundTrips fills every field of every message with random values, and
// encodes and decodes it. Without any one of its required fields the message neither
// encodes nor decodes.
func TestEveryMessageRoundTrips(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, cmd := range pb.Commands() {
		m, ok := pb.New(cmd).(proto.Message)
		if !ok {
			continue // MsgData has tests of its own in msgdata_test.go
		}
		for range 20 {
			m := m.ProtoReflect().New()
			fill(rnd, m, 0)
			roundTrip(t, cmd, m)
		}
		fields := m.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			if fields.Get(i).Cardinality() == protoreflect.Required {
				m := m.ProtoReflect().New()
				fill(rnd, m, 0)
				m.Clear(fields.Get(i))
				refused(t, cmd, m, fields.Get(i).Name())
			}
		}
	}
}

func roundTrip(t *testing.T, cmd pb.Command, m protoreflect.Message) {
	t.Helper()
	body, err := m.Interface().(pb.Message).AppendBody([]byte("before"))
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	body, found := bytes.CutPrefix(body, []byte("before"))
	if !found {
		t.Fatalf("%s: AppendBody changed the bytes before", cmd)
	}
	read := pb.New(cmd)
	buf := bytes.Clone(body)
	if err := read.ParseBody(buf); err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	clear(buf) // the caller may reuse it
	if !proto.Equal(read.(proto.Message), m.Interface()) {
		t.Errorf("%s: got %v, want %v", cmd, read, m)
	}
	again, err := read.AppendBody(nil)
	if err != nil || !bytes.Equal(again, body) {
		t.Errorf("%s: encoded again %x, %v, want %x", cmd, again, err, body)
	}
}

func refused(t *testing.T, cmd pb.Command, m protoreflect.Message, without protoreflect.Name) {
	t.Helper()
	if _, err := m.Interface().(pb.Message).AppendBody(nil); err == nil {
		t.Errorf("%s without %s encodes", cmd, without)
	}
	body, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m.Interface())
	if err != nil {
		t.Fatal(err)
	}
	if err := pb.New(cmd).ParseBody(body); err == nil {
		t.Errorf("%s without %s decodes", cmd, without)
	}
}

// fill gives every field a value. Lists have up to three elements.
func fill(rnd *rand.Rand, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		switch {
		case fd.IsList():
			list := m.Mutable(fd).List()
			for range rnd.IntN(4) {
				if fd.Message() != nil {
					fill(rnd, list.AppendMutable().Message(), depth+1)
				} else {
					list.Append(scalar(rnd, fd))
				}
			}
		case fd.Message() != nil:
			fill(rnd, m.Mutable(fd).Message(), depth+1)
		default:
			m.Set(fd, scalar(rnd, fd))
		}
	}
}

func scalar(rnd *rand.Rand, fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rnd.IntN(2) == 0)
	case protoreflect.EnumKind:
		values := fd.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(rnd.IntN(values.Len())).Number())
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(rnd.Uint32() >> rnd.IntN(32))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(rnd.Uint64() >> rnd.IntN(64))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("成员 " + hex.EncodeToString(binary.AppendUvarint(nil,
			rnd.Uint64())))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(binary.AppendUvarint(nil, rnd.Uint64()))
	}
	panic("no value for " + fd.Kind().String())
}

func TestCommandTable(t *testing.T) {
	ids := pb.Commands()
	if !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
		t.Errorf("the ids are not in strictly increasing order: %v", ids)
	}
	for _, id := range ids {
		if got := pb.New(id).Command(); got != id {
			t.Errorf("New(%s).Command() = %s", id, got)
		}
		if id.Service() != uint16(id>>8) || id.Service() < 1 || id.Service() > 7 {
			t.Errorf("%s: service %d", id, id.Service())
		}
	}
	if pb.New(0x0799) != nil || pb.New(0) != nil {
		t.Error("New makes messages for unknown ids")
	}
	if got := pb.CmdMsgData.String(); got != "IMMsgData" {
		t.Errorf("name of 0x0301: %s", got)
	}
	if got := pb.Command(0x0799).String(); got != "0x0799" {
		t.Errorf("name of 0x0799: %s", got)
	}
}

// TestAttachments checks that the messages with a field attach_data, and no others, are
// Attachments, and that SetAttachData changes the encoding.
func TestAttachments(t *testing.T) {
	for _, cmd := range pb.Commands() {
		m := pb.New(cmd)
		a, is := m.(pb.Attachment)
		p, ok := m.(proto.Message)
		if !ok {
			p = &pb.IMMsgData{}
		}
		fd := p.ProtoReflect().Descriptor().Fields().ByName("attach_data")
		if is != (fd != nil) {
			t.Errorf("%s: Attachment %v, field %v", cmd, is, fd)
		}
		if !is {
			continue
		}
		if fd.Number() != 20 {
			t.Errorf("%s: attach_data is field %d", cmd, fd.Number())
		}
		for _, v := range [][]byte{{1, 2, 3}, {}, nil} {
			a.SetAttachData(v)
			if !a.HasAttachData() || !bytes.Equal(a.GetAttachData(), v) {
				t.Errorf("%s: set %v, has %v, got %v", cmd, v, a.HasAttachData(), a.GetAttachData())
			}
		}
		a.ClearAttachData()
		if a.HasAttachData() || a.GetAttachData() != nil {
			t.Errorf("%s: cleared, has %v, got %v", cmd, a.HasAttachData(), a.GetAttachData())
		}
	}
}

func TestDeviceClasses(t *testing.T) {
	pc := []pb.ClientType{pb.ClientType_CLIENT_TYPE_WINDOWS, pb.ClientType_CLIENT_TYPE_MAC}
	mobile := []pb.ClientType{pb.ClientType_CLIENT_TYPE_IOS, pb.ClientType_CLIENT_TYPE_ANDROID}
	for _, c := range pc {
		for _, d := range mobile {
			if c.IsMobile() || !d.IsMobile() || c.SameClass(d) || d.SameClass(c) {
				t.Errorf("%v and %v", c, d)
			}
		}
	}
	if !pc[0].SameClass(pc[1]) || !mobile[0].SameClass(mobile[1]) {
		t.Error("a client type is not in its own device class")
	}
	for v := range pb.MsgType_name {
		want := v == 0x11 || v == 0x12
		if got := pb.MsgType(v).IsGroup(); got != want {
			t.Errorf("%v.IsGroup() = %v", pb.MsgType(v), got)
		}
	}
}

// FuzzParseBody parses any bytes as every message. A message that is accepted stays the
// same when it is encoded and parsed again.
func FuzzParseBody(f *testing.F) {
	for _, frame := range recordedFrames(f) {
		f.Add(uint16(commandOf(frame)), frame[16:])
	}
	f.Fuzz(func(t *testing.T, id uint16, body []byte) {
		m := pb.New(pb.Command(id))
		if m == nil || m.ParseBody(body) != nil {
			return
		}
		first, err := m.AppendBody(nil)
		if err != nil {
			t.Fatalf("parsed, but does not encode: %v", err)
		}
		read := pb.New(pb.Command(id))
		if err := read.ParseBody(first); err != nil {
			t.Fatalf("encoded, but does not parse: %v", err)
		}
		second, err := read.AppendBody(nil)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("encodes differently the second time: %x, %x, %v", first, second, err)
		}
	})
}
