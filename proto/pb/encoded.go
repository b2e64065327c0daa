package pb

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Encoded is a message that is bytes already: an answer of megabytes that many get, encoded once, or one that is only passed on, never decoded.
// Most of it, Shared, is the same slice for all who get it; what is each one's own, the user_id of the answers to users and attach_data, is
// kept apart and travels in front of it. Receivers take fields in any order.
//
// It is an Attachment like the message it stands for. Make one with Encode or ParseEncoded; ForUser makes another of the same bytes.
type Encoded struct {
	command Command
	shared  []byte // never changed
	user    uint32
	hasUser bool
	attach  []byte // nil: none
	fields  []byte // of one part of several: what stands beside the list, in each of them
	split   *split // shared like the bytes
}

var _ Attachment = (*Encoded)(nil)

// fieldUser is user_id in all answers to users. Where field 1 is another number it is kept apart all the same, which does no harm, but for the one
// message that repeats it.
const fieldUser = 1

// ErrNotEncoded says that bytes are not the fields of a message.
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

// ParseEncoded takes b as the encoding of a message of kind c. It is looked at no further than its fields, at the top level: numbers, types, lengths.
// ErrNotEncoded when these are wrong. b may be reused.
func ParseEncoded(c Command, b []byte) (*Encoded, error) {
	e := &Encoded{command: c}
	return e, e.set(b, true)
}

// AttachOf returns attach_data in the encoding of a message, a slice of b, without looking at anything else; nil when there is none, or b is no message.
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
		if num == fieldAttach && typ == protowire.BytesType {
			attach, _ = protowire.ConsumeBytes(b[tag : tag+n])
		}
		b = b[tag+n:]
	}
	return attach
}

// ForUser returns an answer of the same bytes with another user_id, and no attach_data. e may be used by many at once, as long as nobody sets its own.
func (e *Encoded) ForUser(id uint32) *Encoded {
	return &Encoded{command: e.command, shared: e.shared, user: id, hasUser: true, fields: e.fields,
		split: e.split}
}

// Command is the id of the message it stands for.
func (e *Encoded) Command() Command { return e.command }

// Shared is the part of the body that follows what AppendHead appends. It must not be changed.
func (e *Encoded) Shared() []byte { return e.shared }

// AppendHead appends the part of the body that is e's own.
func (e *Encoded) AppendHead(b []byte) []byte {
	if e.hasUser {
		b = appendVarintField(b, fieldUser, e.user)
	}
	if e.attach != nil {
		b = appendBytesField(b, fieldAttach, e.attach)
	}
	return append(b, e.fields...)
}

// AppendBody appends the whole body. It never fails.
func (e *Encoded) AppendBody(b []byte) ([]byte, error) {
	return append(e.AppendHead(b), e.shared...), nil
}

// ParseBody sets e to what b encodes, see ParseEncoded.
func (e *Encoded) ParseBody(b []byte) error { return e.set(b, true) }

// Decode returns the message it stands for, attach_data included.
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

// SetAttachData attaches v, which is kept.
func (e *Encoded) SetAttachData(v []byte) {
	if v == nil {
		v = []byte{}
	}
	e.attach = v
}

// ClearAttachData removes the attached bytes.
func (e *Encoded) ClearAttachData() { e.attach = nil }

// set takes b apart. With reused, what is kept of b is copied.
func (e *Encoded) set(b []byte, reused bool) error {
	*e = Encoded{command: e.command, split: &split{}}
	var kept [][]byte // what is between the fields kept apart
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

// apart takes a field that is kept apart, and reports that. Of a field that comes several times the last counts.
func (e *Encoded) apart(num protowire.Number, typ protowire.Type, value []byte) bool {
	switch {
	case num == fieldUser && typ == protowire.VarintType && e.command != CmdGetDeviceTokenReq:
		v, _ := protowire.ConsumeVarint(value)
		e.user, e.hasUser = uint32(v), true
	case num == fieldAttach && typ == protowire.BytesType:
		v, _ := protowire.ConsumeBytes(value)
		e.attach = append([]byte{}, v...)
	default:
		return false
	}
	return true
}
