package pb_test

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"teamtalk/proto/pb"
)

func directory(n int) *pb.IMAllUserRsp {
	users := make([]*pb.UserInfo, n)
	for i := range users {
		users[i] = pb.UserInfo_builder{
			UserId: new(uint32(i + 1)), UserGender: new(uint32(1)), UserNickName: new("nick"),
			AvatarUrl: new("avatar"), DepartmentId: new(uint32(3)),
			Email: new("user@example.com"), UserRealName: new("name"), UserTel: new("13800000000"),
			UserDomain: new("domain"), Status: new(uint32(0)),
		}.Build()
	}
	return pb.IMAllUserRsp_builder{UserId: new(uint32(7)),
		LatestUpdateTime: new(uint32(1700000000)), UserList: users}.Build()
}

// TestRecordedFramesSurviveEncoded forwards the recorded frames of the C++ servers
// through Encoded. The message stays the same, also when its attach_data is removed.
func TestRecordedFramesSurviveEncoded(t *testing.T) {
	for _, frame := range recordedFrames(t) {
		cmd, body := commandOf(frame), frame[16:]
		buf := bytes.Clone(body)
		e, err := pb.ParseEncoded(cmd, buf)
		if err != nil {
			t.Errorf("%s: %v", cmd, err)
			continue
		}
		clear(buf) // the caller may reuse it
		want := pb.New(cmd)
		if err := want.ParseBody(body); err != nil {
			t.Fatal(err)
		}
		sameEncoded(t, e, want)
		if a, ok := want.(pb.Attachment); ok {
			if e.HasAttachData() != a.HasAttachData() ||
				!bytes.Equal(e.GetAttachData(), a.GetAttachData()) {
				t.Errorf("%s: attach_data %x, want %x", cmd, e.GetAttachData(), a.GetAttachData())
			}
			a.ClearAttachData()
			e.ClearAttachData()
			sameEncoded(t, e, want)
			a.SetAttachData([]byte("back"))
			e.SetAttachData([]byte("back"))
			sameEncoded(t, e, want)
		}
	}
}

func sameEncoded(t *testing.T, e *pb.Encoded, want pb.Message) {
	t.Helper()
	got, err := e.Decode()
	if err != nil {
		t.Errorf("%s: %v", e.Command(), err)
		return
	}
	a, err := got.AppendBody(nil)
	b, err2 := want.AppendBody(nil)
	if err != nil || err2 != nil || !bytes.Equal(a, b) {
		t.Errorf("%s: got %x, %v, want %x, %v", e.Command(), a, err, b, err2)
	}
}

func TestForUserSharesTheBytes(t *testing.T) {
	m := directory(100)
	e, err := pb.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	a, b := e.ForUser(8), e.ForUser(0)
	a.SetAttachData([]byte("a"))
	if &a.Shared()[0] != &e.Shared()[0] || &b.Shared()[0] != &e.Shared()[0] {
		t.Error("copied")
	}
	sameEncoded(t, e, m)
	m.SetUserId(0)
	sameEncoded(t, b, m)
	m.SetUserId(8)
	m.SetAttachData([]byte("a"))
	sameEncoded(t, a, m)
	whole, err := a.AppendBody([]byte("before"))
	if err != nil || !bytes.Equal(whole, append(a.AppendHead([]byte("before")), a.Shared()...)) {
		t.Errorf("the body is not the head followed by the shared part: %v", err)
	}
	if _, err := pb.Encode(&pb.IMAllUserRsp{}); err == nil {
		t.Error("Encode accepted a message without its required fields")
	}
}

// TestEncodedAcceptsFieldsInAnyOrder uses repeated fields as well.
func TestEncodedAcceptsFieldsInAnyOrder(t *testing.T) {
	var b []byte
	b = protowire.AppendBytes(protowire.AppendTag(b, 20, protowire.BytesType), []byte("first"))
	b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), 5)
	b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), 3)
	b = protowire.AppendBytes(protowire.AppendTag(b, 20, protowire.BytesType), []byte("last"))
	// An unknown field, which is kept.
	b = protowire.AppendVarint(protowire.AppendTag(b, 200, protowire.VarintType), 9)
	b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), 4)
	e, err := pb.ParseEncoded(pb.CmdAllUserRsp, b)
	if err != nil {
		t.Fatal(err)
	}
	if string(e.GetAttachData()) != "last" {
		t.Errorf("attach_data %q", e.GetAttachData())
	}
	want := pb.New(pb.CmdAllUserRsp)
	if err := want.ParseBody(b); err != nil {
		t.Fatal(err)
	}
	got, err := e.Decode()
	if err != nil || !proto.Equal(got.(proto.Message), want.(proto.Message)) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	user, err := e.ForUser(77).Decode()
	if err != nil || user.(*pb.IMAllUserRsp).GetUserId() != 77 ||
		user.(*pb.IMAllUserRsp).HasAttachData() {
		t.Errorf("for another user: %v, %v", user, err)
	}
}

func TestParseEncodedRefusesMalformedBytes(t *testing.T) {
	for name, b := range map[string][]byte{
		"half a tag":       {0x80},
		"no value":         {0x08},
		"too short":        {0x1a, 5, 1, 2},
		"field 0":          {0x00, 1},
		"end of no group":  {0x0c},
		"type 7":           {0x0f, 1},
		"length of 2^63":   {0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"number above max": protowire.AppendVarint(nil, uint64(protowire.MaxValidNumber+1)<<3),
	} {
		if _, err := pb.ParseEncoded(pb.CmdAllUserRsp, b); !errors.Is(err, pb.ErrNotEncoded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	e, err := pb.ParseEncoded(0x7fff, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Decode(); !errors.Is(err, pb.ErrNotEncoded) {
		t.Errorf("a command without a message: %v", err)
	}
}

// FuzzEncoded compares Encoded with the decoder. Encoded accepts everything that the
// decoder accepts, and the forwarded bytes are the same message. The other bytes that
// Encoded accepts are well-formed when it forwards them.
func FuzzEncoded(f *testing.F) {
	for _, frame := range recordedFrames(f) {
		f.Add(uint16(commandOf(frame)), frame[16:])
	}
	f.Add(uint16(pb.CmdAllUserRsp), []byte{0xa2, 0x01, 1, 'x', 0x10, 1, 0x08, 1, 0xa2, 0x01, 0})
	f.Fuzz(func(t *testing.T, cmd uint16, b []byte) {
		e, err := pb.ParseEncoded(pb.Command(cmd), b)
		m := pb.New(pb.Command(cmd))
		if err != nil {
			if m != nil && m.ParseBody(b) == nil {
				t.Fatalf("%s: ParseEncoded refused %x, which decodes", pb.Command(cmd), b)
			}
			return
		}
		body, err := e.AppendBody(nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := pb.ParseEncoded(pb.Command(cmd), body)
		if err != nil || !bytes.Equal(again.Shared(), e.Shared()) ||
			!bytes.Equal(again.AppendHead(nil), e.AppendHead(nil)) {
			t.Fatalf("%x became %x: %v", b, body, err)
		}
		p, ok := m.(proto.Message)
		if !ok || m.ParseBody(b) != nil {
			return
		}
		got, err := e.Decode()
		if err != nil {
			t.Fatalf("%s: %x decodes, the forwarded bytes %x do not: %v", pb.Command(cmd), b, body,
				err)
		}
		// When field 1 is unknown to the message, Encoded may write it in a shorter
		// encoding.
		p.ProtoReflect().SetUnknown(nil)
		got.(proto.Message).ProtoReflect().SetUnknown(nil)
		if !proto.Equal(got.(proto.Message), p) {
			t.Fatalf("got %v, want %v", got, p)
		}
	})
}

// BenchmarkEncoded forwards a directory of 20,000 users: decoded and encoded again, and
// as an Encoded.
func BenchmarkEncoded(b *testing.B) {
	body, err := directory(20_000).AppendBody(nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("decoded", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			var m pb.IMAllUserRsp
			if err := m.ParseBody(body); err != nil {
				b.Fatal(err)
			}
			if _, err := m.AppendBody(nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("as it is", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := pb.ParseEncoded(pb.CmdAllUserRsp, body); err != nil {
				b.Fatal(err)
			}
		}
	})
}
