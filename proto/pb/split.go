package pb

import (
	"slices"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

// split is the last result of Split, for all Encoded that share the bytes.
type split struct {
	mu    sync.Mutex
	list  protowire.Number
	limit int
	parts []*Encoded // without a user and attach_data
}

// ownFields is the number of bytes that Split leaves for user_id.
const ownFields = 6

// Split splits e into messages whose bodies have at most limit bytes, without
// attach_data. The elements of e's field list are divided among the parts in their order.
// All other fields are in each part. If e fits, Split returns e alone. The parts share
// e's bytes, which are copied only if other fields stand between the elements. An element
// that does not fit into a part is passed to replace, which returns its replacement, or
// nil to drop it. With a nil replace such an element is a part alone, which is too long.
//
// Split does not decode the elements, and e need not be a valid message otherwise. The
// result of a call without replace is stored for the next caller. Any goroutine.
func (e *Encoded) Split(list protowire.Number, limit int,
	replace func(element []byte) []byte) []*Encoded {
	if len(e.fields)+len(e.shared)+ownFields <= limit || e.split == nil {
		return []*Encoded{e}
	}
	if replace != nil {
		return e.own(e.cut(list, limit, replace))
	}
	e.split.mu.Lock()
	if e.split.list != list || e.split.limit != limit {
		e.split.list, e.split.limit, e.split.parts = list, limit, e.cut(list, limit, nil)
	}
	parts := e.split.parts
	e.split.mu.Unlock()
	return e.own(parts)
}

// own returns copies of parts with e's own fields. All share their bytes.
func (e *Encoded) own(parts []*Encoded) []*Encoded {
	list := make([]*Encoded, len(parts))
	for i, p := range parts {
		list[i] = &Encoded{command: e.command, shared: p.shared, fields: p.fields, user: e.user,
			hasUser: e.hasUser, attach: e.attach}
	}
	return list
}

// cut splits e for Split.
func (e *Encoded) cut(list protowire.Number, limit int, replace func([]byte) []byte) []*Encoded {
	others, longest := slices.Clone(e.fields), 0
	first, next, whole := -1, 0, true // whole: the elements are one piece of the shared bytes
	eachField(e.shared, func(num protowire.Number, at int, field []byte) {
		if num != list {
			others = append(others, field...)
			return
		}
		if first < 0 {
			first, next = at, at
		}
		whole = whole && next == at
		next, longest = at+len(field), max(longest, len(field))
	})
	if first < 0 {
		return []*Encoded{{command: e.command, fields: others}}
	}
	room := limit - ownFields - len(others)
	elements := e.shared[first:next]
	if !whole || replace != nil && longest > room {
		elements = e.elements(list, room, replace)
	}
	var parts []*Encoded
	add := func(from, to int) {
		parts = append(parts, &Encoded{command: e.command, shared: elements[from:to:to],
			fields: others})
	}
	start, end := 0, 0
	eachField(elements, func(_ protowire.Number, at int, field []byte) {
		end = at + len(field)
		if end-start > room && at > start {
			add(start, at)
			start = at
		}
	})
	if end > start || len(parts) == 0 {
		add(start, end)
	}
	return parts
}

// elements copies the elements of the list into one piece. It replaces those of more than
// room bytes.
func (e *Encoded) elements(list protowire.Number, room int, replace func([]byte) []byte) []byte {
	var found [][]byte
	eachField(e.shared, func(num protowire.Number, _ int, field []byte) {
		if num != list {
			return
		}
		if replace != nil && len(field) > room {
			field = replaced(field, replace)
		}
		found = append(found, field)
	})
	return slices.Concat(found...)
}

// replaced returns field with the value of its replacement; nil to drop it.
func replaced(field []byte, replace func([]byte) []byte) []byte {
	num, typ, tag := protowire.ConsumeTag(field)
	if typ != protowire.BytesType {
		return field
	}
	value, _ := protowire.ConsumeBytes(field[tag:])
	if value = replace(value); value == nil {
		return nil
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, num, typ), value)
}

// eachField calls do with each field of b, with its tag, and its position. b must be
// well-formed.
func eachField(b []byte, do func(num protowire.Number, at int, field []byte)) {
	for at := 0; at < len(b); {
		num, typ, tag := protowire.ConsumeTag(b[at:])
		if tag < 0 {
			return
		}
		n := protowire.ConsumeFieldValue(num, typ, b[at+tag:])
		if n < 0 {
			return
		}
		do(num, at, b[at:at+tag+n])
		at += tag + n
	}
}
