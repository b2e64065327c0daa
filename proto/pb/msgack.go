package pb

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// An IMMsgDataAck answers every message and every delivery. Its usual form, the four
// required fields in their order and nothing else, is encoded and decoded by hand, because
// the library takes several times as long (BenchmarkMsgAck). Any other form, also a wrong
// one, is left to the library.

// Tags of the fields of an IMMsgDataAck, all varints.
const (
	ackUser    = 1 << 3
	ackSession = 2 << 3
	ackMsg     = 3 << 3
	ackType    = 4 << 3
)

// AppendBody appends the encoded message to b.
func (m *IMMsgDataAck) AppendBody(b []byte) ([]byte, error) {
	if !m.HasUserId() || !m.HasSessionId() || !m.HasMsgId() || !m.HasSessionType() ||
		m.HasRefusal() || len(m.unknownFields) > 0 {
		return appendBody(b, m)
	}
	b = protowire.AppendVarint(append(b, ackUser), uint64(m.GetUserId()))
	b = protowire.AppendVarint(append(b, ackSession), uint64(m.GetSessionId()))
	b = protowire.AppendVarint(append(b, ackMsg), uint64(m.GetMsgId()))
	return protowire.AppendVarint(append(b, ackType), uint64(m.GetSessionType())), nil
}

// ParseBody decodes b, and does not retain it.
func (m *IMMsgDataAck) ParseBody(b []byte) error {
	user, rest, ok1 := ackField(b, ackUser)
	session, rest, ok2 := ackField(rest, ackSession)
	msg, rest, ok3 := ackField(rest, ackMsg)
	kind, rest, ok4 := ackField(rest, ackType)
	known := SessionType(kind) == SessionType_SESSION_TYPE_SINGLE ||
		SessionType(kind) == SessionType_SESSION_TYPE_GROUP
	if !ok1 || !ok2 || !ok3 || !ok4 || len(rest) > 0 || !known {
		return parseBody(b, m)
	}
	*m = IMMsgDataAck{}
	m.SetUserId(user)
	m.SetSessionId(session)
	m.SetMsgId(msg)
	m.SetSessionType(SessionType(kind))
	return nil
}

// ackField returns the value of the field that b begins with, and what follows it. It
// returns false when the field has another tag, or a value that is no uint32.
func ackField(b []byte, tag byte) (v uint32, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != tag {
		return 0, nil, false
	}
	if b[1] < 0x80 {
		return uint32(b[1]), b[2:], true
	}
	wide, n := protowire.ConsumeVarint(b[1:])
	if n < 0 || wide > math.MaxUint32 {
		return 0, nil, false
	}
	return uint32(wide), b[1+n:], true
}
