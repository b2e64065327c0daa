package sim

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// A server of the first implementation is modelled by one of ours whose extensions do not
// pass its links: no fields from number 100 on, and no commands that are additions. It and
// the servers that it is linked to do then what they do with one of the first
// implementation.

// firstExtension is the lowest number of a field that is an extension.
const firstExtension = 100

// additions are the commands between servers that the first implementation does not know.
var additions = []pb.Command{pb.CmdRequestRefused, pb.CmdAnswerPart, pb.CmdCredentialsReq,
	pb.CmdCredentialsRsp}

// stockOf returns which process of a seed is of the first implementation, "" for most seeds.
func stockOf(src *source) string {
	if src.chance(0.7) {
		return ""
	}
	return []string{"db2", "msg2", "route"}[src.rand.IntN(3)]
}

// weaker reports whether a promise does not hold in a deployment with a server of the first
// implementation.
func (w *world) weaker(kind string) bool {
	switch w.stock {
	case "db2": // it recognises no repeats, and says neither versions nor previous ids
		return slices.Contains([]string{"twice", "received twice", "order", "overtaken",
			"not delivered", "stranger", "rejected", "unacked", "members"}, kind)
	case "msg2": // it passes on no names, epochs or versions, says nothing again, and not that its
		// link was broken
		return slices.Contains([]string{"twice", "received twice", "order", "overtaken",
			"not delivered", "stranger", "members", "status"}, kind)
	case "route": // texts and changes are not sent again after a link was lost
		return slices.Contains([]string{"not delivered", "members", "status"}, kind)
	}
	return false
}

// asStock returns a frame as it passes a link with a server of the first implementation, nil
// if it does not.
func (c *connection) asStock(h pdu.Header, frame []byte) []byte {
	stock := c.net.stock
	if c.from == nil || stock != c.from.name && stock != c.to.name {
		return frame
	}
	if stock == "route" && h.Command != pb.CmdRoleSet {
		return frame // it forwards all unchanged
	}
	if slices.Contains(additions, h.Command) {
		return nil
	}
	short, err := pdu.Append(nil, h.Seq, withoutExtensions{h.Command, frame[pdu.HeaderLen:]})
	if err != nil {
		panic(err)
	}
	return short
}

// withoutExtensions is a message whose body is one of another without the extensions.
type withoutExtensions struct {
	cmd  pb.Command
	body []byte
}

func (m withoutExtensions) Command() pb.Command    { return m.cmd }
func (m withoutExtensions) ParseBody([]byte) error { panic("sim: it is only sent") }

// AppendBody appends the fields that are no extensions.
func (m withoutExtensions) AppendBody(b []byte) ([]byte, error) {
	for rest := m.body; len(rest) > 0; {
		number, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		if number < firstExtension {
			b = append(b, rest[:n]...)
		}
		rest = rest[n:]
	}
	return b, nil
}
