package pb

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of the fields of IMAnswerPart.
const (
	partCommand = 1
	partTotal   = 2
	partData    = 3
	partOffset  = 4
)

// Len returns the length of the body, in bytes.
func (e *Encoded) Len() int { return len(e.AppendHead(nil)) + len(e.shared) }

// Parts returns the IMAnswerPart messages that carry e, with e's attach_data, in the order in
// which they must be sent. A part has at most size bytes of e's body. The parts share e's
// bytes.
func (e *Encoded) Parts(size int) []*Encoded {
	head := e.AppendHead(nil)
	total := len(head) + len(e.shared)
	var parts []*Encoded
	for offset, rest := 0, e.shared; offset < total; {
		n := min(len(rest), max(1, size-len(head)))
		fields := appendVarintField(nil, partCommand, uint32(e.command))
		fields = appendVarintField(fields, partTotal, uint32(total))
		fields = appendVarintField(fields, partOffset, uint32(offset))
		fields = protowire.AppendTag(fields, partData, protowire.BytesType)
		fields = protowire.AppendVarint(fields, uint64(len(head)+n))
		fields = append(fields, head...)
		parts = append(parts, &Encoded{command: CmdAnswerPart, attach: e.attach, fields: fields,
			shared: rest[:n:n]})
		offset, rest, head = offset+len(head)+n, rest[n:], nil
	}
	return parts
}
