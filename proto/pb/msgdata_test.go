package pb_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"teamtalk/proto/pb"
	"teamtalk/proto/pb/internal/openpb"
)

// generatedOf returns the generated form of m.
func generatedOf(m *pb.MsgData) *pb.IMMsgData {
	g := &pb.IMMsgData{}
	g.SetFromUserId(m.FromUserID)
	g.SetToSessionId(m.ToSessionID)
	g.SetMsgId(m.MsgID)
	g.SetCreateTime(m.CreateTime)
	g.SetMsgType(m.Type)
	g.SetMsgData(m.Data)
	if m.AttachData != nil {
		g.SetAttachData(m.AttachData)
	}
	if m.ClientMsgID != nil {
		g.SetClientMsgId(m.ClientMsgID)
	}
	if m.Duplicate {
		g.SetDuplicate(true)
	}
	if m.HasGroupVersion {
		g.SetGroupVersion(m.GroupVersion)
	}
	if m.SenderConn != 0 {
		g.SetSenderConn(m.SenderConn)
		g.SetEpoch(m.Epoch)
	}
	if m.WantRefusal {
		g.SetWantRefusal(true)
	}
	if m.Rejected {
		g.SetRejected(true)
	}
	if m.HasPrevID {
		g.SetPrevMsgId(m.PrevID)
	}
	if m.SentAs != 0 {
		g.SetSentAs(m.SentAs)
	}
	if m.ResentWithin != 0 {
		g.SetResentWithin(m.ResentWithin)
	}
	if m.Round != 0 {
		g.SetRound(m.Round)
	}
	if m.Resent {
		g.SetAge(m.Age)
	}
	if m.WantWhereabouts {
		g.SetWantWhereabouts(true)
	}
	if m.Whereabouts != nil {
		g.SetWhereabouts(m.Whereabouts)
	}
	return g
}

// same fails unless m and its generated form g have the same fields and the same bytes.
func same(t *testing.T, m *pb.MsgData, g *pb.IMMsgData) {
	t.Helper()
	if m.FromUserID != g.GetFromUserId() || m.ToSessionID != g.GetToSessionId() ||
		m.MsgID != g.GetMsgId() ||
		m.CreateTime != g.GetCreateTime() || m.Type != g.GetMsgType() ||
		!bytes.Equal(m.Data, g.GetMsgData()) ||
		m.HasAttachData() != g.HasAttachData() || !bytes.Equal(m.AttachData, g.GetAttachData()) ||
		(m.ClientMsgID != nil) != g.HasClientMsgId() ||
		!bytes.Equal(m.ClientMsgID, g.GetClientMsgId()) ||
		m.Duplicate != g.GetDuplicate() || m.GroupVersion != g.GetGroupVersion() ||
		m.HasGroupVersion != g.HasGroupVersion() ||
		m.SenderConn != g.GetSenderConn() || m.Epoch != g.GetEpoch() ||
		m.WantRefusal != g.GetWantRefusal() || m.Rejected != g.GetRejected() ||
		m.PrevID != g.GetPrevMsgId() || m.HasPrevID != g.HasPrevMsgId() ||
		m.SentAs != g.GetSentAs() || m.ResentWithin != g.GetResentWithin() ||
		m.Round != g.GetRound() || m.Resent != g.HasAge() || m.Age != g.GetAge() ||
		m.WantWhereabouts != g.GetWantWhereabouts() ||
		(m.Whereabouts != nil) != g.HasWhereabouts() ||
		!bytes.Equal(m.Whereabouts, g.GetWhereabouts()) {
		t.Fatalf("fields differ: %+v, %v", m, g)
	}
	normalise(g)
	mine, err := m.AppendBody(nil)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := proto.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(mine, theirs) {
		t.Fatalf("the bytes differ: by hand\n%x\ngenerated\n%x", mine, theirs)
	}
	if m.BodySize() != len(mine) {
		t.Fatalf("BodySize %d, encoded %d bytes", m.BodySize(), len(mine))
	}
}

// normalise removes from g the fields that MsgData does not write: a false one or a 0 that
// means the same as absent, and an epoch without a connection.
func normalise(g *pb.IMMsgData) {
	if !g.GetDuplicate() {
		g.ClearDuplicate()
	}
	if !g.GetWantRefusal() {
		g.ClearWantRefusal()
	}
	if !g.GetRejected() {
		g.ClearRejected()
	}
	if g.GetSentAs() == 0 {
		g.ClearSentAs()
	}
	if g.GetResentWithin() == 0 {
		g.ClearResentWithin()
	}
	if !g.GetWantWhereabouts() {
		g.ClearWantWhereabouts()
	}
	if g.GetRound() == 0 {
		g.ClearRound()
	}
	if g.GetSenderConn() == 0 {
		g.ClearSenderConn()
		g.ClearEpoch()
	} else {
		g.SetEpoch(g.GetEpoch())
	}
}

func TestMsgDataEncodesLikeGenerated(t *testing.T) {
	const maxU32 = 1<<32 - 1
	for name, m := range map[string]*pb.MsgData{
		"zeroes": {Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT},
		"ones": {FromUserID: 1, ToSessionID: 1, MsgID: 1, CreateTime: 1,
			Type: pb.MsgType_MSG_TYPE_GROUP_TEXT, Data: []byte("x")},
		"greatest": {FromUserID: maxU32, ToSessionID: maxU32, MsgID: maxU32, CreateTime: maxU32,
			Type: pb.MsgType_MSG_TYPE_GROUP_AUDIO, Data: make([]byte, 70000)},
		"all fields": {FromUserID: 128, ToSessionID: 16384, MsgID: 1 << 21, CreateTime: 1 << 28,
			Type: pb.MsgType_MSG_TYPE_SINGLE_AUDIO, Data: make([]byte, 128),
			AttachData: []byte("way back"), ClientMsgID: []byte("id"), Duplicate: true,
			GroupVersion: 300, HasGroupVersion: true},
		"of a sender": {Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, SenderConn: maxU32, Epoch: 1 << 14,
			WantRefusal: true, Rejected: true, Round: 300},
		"second of a conversation": {Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, PrevID: 1,
			HasPrevID: true, SentAs: pb.SentAs(pb.ClientType_CLIENT_TYPE_IOS, 300),
			ResentWithin: 60},
		"sent again":              {Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Resent: true, Age: 300},
		"at once":                 {Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Resent: true},
		"first of a conversation": {Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, HasPrevID: true},
		"request":                 {Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, WantWhereabouts: true},
		"answer": {Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, ClientMsgID: []byte("id"),
			Whereabouts: []byte("where")},
		"nowhere":    {Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Whereabouts: []byte{}},
		"no epoch":   {Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, SenderConn: 1},
		"no version": {Type: pb.MsgType_MSG_TYPE_GROUP_TEXT, HasGroupVersion: true},
		"empty bytes": {Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, AttachData: []byte{},
			ClientMsgID: []byte{}},
	} {
		t.Run(name, func(t *testing.T) {
			g := generatedOf(m)
			same(t, m, g)
			body, err := m.AppendBody(nil)
			if err != nil {
				t.Fatal(err)
			}
			var read pb.MsgData
			if err := read.ParseBody(body); err != nil {
				t.Fatal(err)
			}
			clear(body) // the caller may reuse it
			same(t, &read, g)
		})
	}
}

// TestMsgDataParsesLikeGenerated uses bytes on which decoders tend to differ.
func TestMsgDataParsesLikeGenerated(t *testing.T) {
	varint := func(b []byte, num protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
	}
	whole, err := (&pb.MsgData{FromUserID: 1, ToSessionID: 2, MsgID: 3, CreateTime: 4,
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte("text")}).AppendBody(nil)
	if err != nil {
		t.Fatal(err)
	}
	with := func(tail ...byte) []byte { return append(bytes.Clone(whole), tail...) }
	for name, body := range map[string][]byte{
		"nothing":                  nil,
		"cut short":                whole[:len(whole)-1],
		"without data":             whole[:len(whole)-6],
		"field twice":              varint(with(), 1, 7),
		"wider than 32 bits":       varint(with(), 1, 7<<32|9),
		"unknown type":             varint(bytes.Replace(with(), []byte{5 << 3, 1}, nil, 1), 5, 9),
		"unknown type after known": varint(with(), 5, 9),
		"negative type":            varint(with(), 5, 1<<64-1),
		"type wider than 32 bits":  varint(with(), 5, 1<<32|2),
		"unknown field":            varint(with(), 77, 9),
		"unknown group":            with(0x3b, 0x08, 0x01, 0x3c),
		"group not ended":          with(0x3b, 0x08, 0x01),
		"end without group":        with(0x3c),
		"wrong wire type":          with(0x0d, 1, 2, 3, 4),
		"data as varint":           varint(with(), 6, 1),
		"from as bytes":            with(0x0a, 1, 1),
		"field number zero":        with(0x00, 1),
		"field number too large":   append(protowire.AppendVarint(with(), 1<<32), 1),
		"length beyond the end":    with(0x32, 0xff, 0xff, 0xff, 0xff, 0x0f),
		"varint of eleven bytes": with(0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
			0xff, 0xff, 0x01),
		"varint longer than needed": with(0x88, 0x80, 0x00, 0x81, 0x80, 0x00),
		"duplicate said to be zero": varint(with(), 101, 0),
		"duplicate two":             varint(with(), 101, 2),
		"epoch without connection":  varint(with(), 111, 2),
		"connection without epoch":  varint(with(), 110, 2),
		"no refusal wanted":         varint(with(), 112, 0),
		"no whereabouts wanted":     varint(with(), 130, 0),
		"whereabouts as a number":   varint(with(), 131, 1),
	} {
		t.Run(name, func(t *testing.T) { compare(t, body) })
	}
}

// compare parses body by hand and with generated code. Both accept it with the same
// fields, or both reject it.
func compare(t *testing.T, body []byte) {
	t.Helper()
	// ParseBody must overwrite every field.
	m := pb.MsgData{FromUserID: 99, AttachData: []byte("left over"), Duplicate: true,
		GroupVersion: 1, HasGroupVersion: true, WantWhereabouts: true, Whereabouts: []byte{1}}
	var g pb.IMMsgData
	buf := bytes.Clone(body)
	mine := m.ParseBody(buf)
	clear(buf) // the caller may reuse it
	theirs := proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(withoutUnknownTypes(body), &g)
	if (mine == nil) != (theirs == nil) {
		t.Fatalf("%x: by hand %v, generated %v", body, mine, theirs)
	}
	if mine == nil {
		same(t, &m, &g)
	}
}

// withoutUnknownTypes removes the fields msg_type with an unknown value. MsgData and the
// C++ servers treat such a field as unknown, so that the message lacks a required field.
// Go's generated code accepts any number.
func withoutUnknownTypes(body []byte) []byte {
	var kept []byte
	for len(body) > 0 {
		num, typ, n := protowire.ConsumeField(body)
		if n < 0 {
			break // both decoders must reject the rest
		}
		if num == 5 && typ == protowire.VarintType {
			_, _, tag := protowire.ConsumeTag(body)
			v, _ := protowire.ConsumeVarint(body[tag:])
			if _, known := pb.MsgType_name[int32(uint32(v))]; !known {
				body = body[n:]
				continue
			}
		}
		kept = append(kept, body[:n]...)
		body = body[n:]
	}
	return append(kept, body...)
}

// FuzzMsgData searches for bytes on which the hand-written decoder and the generated one
// differ.
func FuzzMsgData(f *testing.F) {
	for _, frame := range recordedFrames(f) {
		if commandOf(frame) == pb.CmdMsgData {
			f.Add(frame[16:])
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) { compare(t, body) })
}

// benchmarked returns a message of the usual size: 64 bytes of text, encrypted and in
// base64.
func benchmarked() *pb.MsgData {
	return &pb.MsgData{FromUserID: 10007, ToSessionID: 10011, MsgID: 52311, CreateTime: 1763900000,
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: bytes.Repeat([]byte("a"), 88),
		AttachData: make([]byte, 12)}
}

func openOf(m *pb.MsgData) *openpb.IMMsgData {
	return &openpb.IMMsgData{FromUserId: &m.FromUserID, ToSessionId: &m.ToSessionID,
		MsgId: &m.MsgID, CreateTime: &m.CreateTime,
		MsgType: openpb.MsgType(m.Type).Enum(), MsgData: m.Data, AttachData: m.AttachData}
}

func BenchmarkMsgDataEncode(b *testing.B) {
	m := benchmarked()
	buf := make([]byte, 0, 1024)
	run := func(name string, encode func() ([]byte, error)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := encode(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	// As a server does: fill in a message and encode it into a buffer that exists.
	run("hand", func() ([]byte, error) {
		return (&pb.MsgData{FromUserID: m.FromUserID, ToSessionID: m.ToSessionID, MsgID: m.MsgID,
			CreateTime: m.CreateTime,
			Type:       m.Type, Data: m.Data, AttachData: m.AttachData}).AppendBody(buf)
	})
	run("opaque", func() ([]byte, error) {
		return proto.MarshalOptions{}.MarshalAppend(buf,
			generatedOf(m))
	})
	run("open", func() ([]byte, error) {
		return proto.MarshalOptions{}.MarshalAppend(buf,
			openOf(m))
	})
}

func BenchmarkMsgDataDecode(b *testing.B) {
	body, err := benchmarked().AppendBody(nil)
	if err != nil {
		b.Fatal(err)
	}
	var keep [3]any // forces the messages to the heap, as for another goroutine
	b.Run("hand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m := &pb.MsgData{}
			if err := m.ParseBody(body); err != nil {
				b.Fatal(err)
			}
			keep[0] = m
		}
	})
	b.Run("opaque", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m := &pb.IMMsgData{}
			if err := proto.Unmarshal(body, m); err != nil {
				b.Fatal(err)
			}
			keep[1] = m
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m := &openpb.IMMsgData{}
			if err := proto.Unmarshal(body, m); err != nil {
				b.Fatal(err)
			}
			keep[2] = m
		}
	})
}

// BenchmarkAck encodes and decodes the shortest frequent message. A server handles two
// for every text.
func BenchmarkAck(b *testing.B) {
	ack := func() *pb.IMMsgDataAck {
		m := &pb.IMMsgDataAck{}
		m.SetUserId(10007)
		m.SetSessionId(10011)
		m.SetMsgId(52311)
		m.SetSessionType(pb.SessionType_SESSION_TYPE_SINGLE)
		return m
	}
	body, err := ack().AppendBody(nil)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 1024)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ack().AppendBody(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
	var keep pb.Message // forces the message to the heap, as for another goroutine
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m := &pb.IMMsgDataAck{}
			if err := m.ParseBody(body); err != nil {
				b.Fatal(err)
			}
			keep = m
		}
	})
	_ = keep
}
