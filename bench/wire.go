package bench

import (
	"encoding/binary"

	"google.golang.org/protobuf/encoding/protowire"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// The generator parses hundreds of thousands of frames a second beside the servers it
// measures. It therefore reads only the fields that it needs, and copies nothing.

// delivery holds the fields of an IMMsgData that a receiver needs. data is a slice of the
// body.
type delivery struct {
	from, to, id uint32
	kind         pb.MsgType
	data         []byte
}

// parse returns false when body is not a valid IMMsgData.
func (d *delivery) parse(body []byte) bool {
	*d = delivery{}
	const required = 1<<1 | 1<<2 | 1<<3 | 1<<5 | 1<<6
	seen := 0
	return eachField(body, func(num protowire.Number, v uint64, b []byte) {
		// A field with another wire type than specified, and an unknown message type,
		// count as unknown fields.
		switch kind := pb.MsgType(int32(uint32(v))); {
		case (num == 6) != (b != nil):
			return
		case num == 1:
			d.from = uint32(v)
		case num == 2:
			d.to = uint32(v)
		case num == 3:
			d.id = uint32(v)
		case num == 5 && pb.MsgType_name[int32(kind)] != "":
			d.kind = kind
		case num == 6:
			d.data = b
		default:
			return
		}
		seen |= 1 << num
	}) && seen == required
}

// ackOf returns the conversation partner or group, and the msg_id, of an IMMsgDataAck.
func ackOf(body []byte) (session, id uint32, ok bool) {
	ok = eachField(body, func(num protowire.Number, v uint64, _ []byte) {
		switch num {
		case 2:
			session = uint32(v)
		case 3:
			id = uint32(v)
		}
	})
	return session, id, ok
}

// loginOf returns the fields of an IMLoginRes.
func loginOf(body []byte) (code pb.ResultType, text string, user uint32, ok bool) {
	code = -1
	inner := true
	ok = eachField(body, func(num protowire.Number, v uint64, b []byte) {
		switch num {
		case 2:
			code = pb.ResultType(v)
		case 3:
			text = string(b)
		case 5:
			inner = eachField(b, func(num protowire.Number, v uint64, _ []byte) {
				if num == 1 {
					user = uint32(v)
				}
			})
		}
	})
	return code, text, user, ok && inner && code >= 0
}

// eachField calls f with each field of a message that holds a number, v, or bytes, b,
// which is nil for numbers. It returns false when body is not a valid message.
func eachField(body []byte, f func(num protowire.Number, v uint64, b []byte)) bool {
	for len(body) > 0 {
		num, typ, n := protowire.ConsumeTag(body)
		if n < 0 {
			return false
		}
		body = body[n:]
		var v uint64
		var b []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(body)
		case protowire.BytesType:
			b, n = protowire.ConsumeBytes(body)
		default:
			n = protowire.ConsumeFieldValue(num, typ, body)
		}
		if n < 0 {
			return false
		}
		body = body[n:]
		if typ == protowire.VarintType || typ == protowire.BytesType {
			f(num, v, b)
		}
	}
	return true
}

// appendAck appends the frame of an IMMsgDataAck or an IMMsgDataReadAck, which have the
// same fields.
func appendAck(b []byte, cmd pb.Command, user, session, id uint32, kind pb.SessionType) []byte {
	start := len(b)
	b = pdu.AppendHeader(b, cmd, 0)
	for i, v := range [...]uint32{user, session, id, uint32(kind)} {
		b = append(b, byte(i+1)<<3) // a varint field
		b = protowire.AppendVarint(b, uint64(v))
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}
