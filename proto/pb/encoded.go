package pb

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Encoded is a message that is encoded already: an answer of megabytes for many clients,
// which is encoded once, or an answer that a server forwards without decoding it. All
// receivers get the same slice of bytes, Shared. The fields that differ for each receiver
// (user_id of the answers to users, and attach_data) are kept apart and are sent before
// it. Receivers accept fields in any order.
//
// Like its message, Encoded is an Attachment. Make one with Encode or ParseEncoded.
// ForUser makes another one with the same Shared.
type Encoded struct {
	command Command
	shared  []byte // immutable
	user    uint32
	hasUser bool
	attach  []byte // nil: none
	fields  []byte // in a part of a split answer: the fields beside the list
	split   *split // shared like the bytes
}

var _ Attachment = (*Encoded)(nil)

// fieldUser is the number of user_id in all answers to users. In other messages field 1
// is kept apart as well, which is harmless except in the one message that repeats it.
const fieldUser = 1

// ErrNotEncoded means that bytes are not the encoding of a message.
var ErrNotEncoded = errors.New("pb: not a message")

// Encode encodes m. The error is that of AppendBody.
func Encode(m Message) (*Encoded, error) {
	b, err := m.AppendBody(nil)
	if err != nil {
		return nil, err
	}
	e := &Encoded{command: m.Command()}
	return e, e.set(b, false)
}

// ParseEncoded makes an Encoded from b, the encoding of a message of kind c. It checks
// the numbers, types and lengths of the top-level fields only; the error is ErrNotEncoded
// when they are wrong. The caller may reuse b.
func ParseEncoded(c Command, b []byte) (*Encoded, error) {
	e := &Encoded{command: c}
	return e, e.set(b, true)
}

// AttachOf returns attach_data, a slice of b, from the encoding of a message. It reads
// nothing else. It returns nil when there is none, and when b is not a message.
func AttachOf(b []byte) (attach []byte) {
	for len(b) > 0 {
		num, typ, tag := protowire.ConsumeTag(b)
		if tag < 0 {
			return nil
		}
		n := protowire.ConsumeFieldValue(num, typ, b[tag:])
		if n < 0 {
			return nil
		}
		if num == FieldAttach && typ == protowire.BytesType {
			attach, _ = protowire.ConsumeBytes(b[tag : tag+n])
		}
		b = b[tag+n:]
	}
	return attach
}

// ForUser returns an answer with the same Shared, another user_id and no attach_data. Any
// goroutine, unless another goroutine sets e's attach_data.
func (e *Encoded) ForUser(id uint32) *Encoded {
	return &Encoded{command: e.command, shared: e.shared, user: id, hasUser: true, fields: e.fields,
		split: e.split}
}

// Command returns the command id of the encoded message.
func (e *Encoded) Command() Command { return e.command }

// Shared returns the part of the body that follows the bytes of AppendHead. The caller
// must not change it.
func (e *Encoded) Shared() []byte { return e.shared }

// AppendHead appends the part of the body that is not shared.
func (e *Encoded) AppendHead(b []byte) []byte {
	if e.hasUser {
		b = appendVarintField(b, fieldUser, e.user)
	}
	if e.attach != nil {
		b = appendBytesField(b, FieldAttach, e.attach)
	}
	return append(b, e.fields...)
}

// AppendBody appends the whole body. It never fails.
func (e *Encoded) AppendBody(b []byte) ([]byte, error) {
	return append(e.AppendHead(b), e.shared...), nil
}

// ParseBody sets e to the message that b encodes, see ParseEncoded.
func (e *Encoded) ParseBody(b []byte) error { return e.set(b, true) }

// Decode decodes the message, with its attach_data.
func (e *Encoded) Decode() (Message, error) {
	m := New(e.command)
	if m == nil {
		return nil, fmt.Errorf("%w: no command %s", ErrNotEncoded, e.command)
	}
	b, err := e.AppendBody(nil)
	if err == nil {
		err = m.ParseBody(b)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// GetAttachData returns the attached bytes, nil when there are none.
func (e *Encoded) GetAttachData() []byte { return e.attach }

// HasAttachData reports whether attach_data is present, also when empty.
func (e *Encoded) HasAttachData() bool { return e.attach != nil }

// SetAttachData sets attach_data to v, and retains v.
func (e *Encoded) SetAttachData(v []byte) {
	if v == nil {
		v = []byte{}
	}
	e.attach = v
}

// ClearAttachData removes the attached bytes.
func (e *Encoded) ClearAttachData() { e.attach = nil }

// set splits b into shared bytes and fields that are kept apart. With reused it copies
// the bytes that it retains.
func (e *Encoded) set(b []byte, reused bool) error {
	*e = Encoded{command: e.command, split: &split{}}
	var kept [][]byte // the shared bytes: those between the fields that are kept apart
	start := 0
	for pos := 0; pos < len(b); {
		num, typ, tag := protowire.ConsumeTag(b[pos:])
		if tag < 0 || num > protowire.MaxValidNumber || typ == protowire.EndGroupType {
			return ErrNotEncoded
		}
		value := b[pos+tag:]
		n := protowire.ConsumeFieldValue(num, typ, value)
		if n < 0 {
			return ErrNotEncoded
		}
		if e.apart(num, typ, value[:n]) {
			kept = append(kept, b[start:pos])
			start = pos + tag + n
		}
		pos += tag + n
	}
	kept = append(kept, b[start:])
	kept = slices.DeleteFunc(kept, func(part []byte) bool { return len(part) == 0 })
	if len(kept) == 1 && !reused {
		e.shared = kept[0]
	} else {
		e.shared = slices.Concat(kept...)
	}
	return nil
}

// apart stores a field if it is one that is kept apart, and reports whether it is. When a
// field is repeated, the last one counts.
func (e *Encoded) apart(num protowire.Number, typ protowire.Type, value []byte) bool {
	switch {
	case num == fieldUser && typ == protowire.VarintType && e.command != CmdGetDeviceTokenReq:
		v, _ := protowire.ConsumeVarint(value)
		e.user, e.hasUser = uint32(v), true
	case num == FieldAttach && typ == protowire.BytesType:
		v, _ := protowire.ConsumeBytes(value)
		e.attach = append([]byte{}, v...)
	default:
		return false
	}
	return true
}
