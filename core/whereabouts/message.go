package whereabouts

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"teamtalk/proto/pb"
)

// OfMessage is the whereabouts of the users of a message between two users, at a moment after it
// was stored. db_proxy answers with them, see pb.MsgData.Whereabouts.
//
// No device misses the message: a client's message server writes its entry before the client
// reads the history. If the entry is not among these, it was written after that moment, and the
// history has the message.
//
// Trusted says whether they are an answer.
type OfMessage struct {
	Receiver, Sender []Entry // sorted by name
}

// Trusted reports whether by, the message server of the sender, has its entry among the sender's.
// Without it the db_proxy has read another Redis, or Redis has lost entries, or the sender has
// left: then the receiver's entries are not known.
func (o OfMessage) Trusted(by Node) bool {
	return slices.ContainsFunc(o.Sender, func(e Entry) bool { return e.Node == by })
}

// MaxOfMessage is the largest number of entries of a user that a message carries. With more the
// whereabouts are not known.
const MaxOfMessage = 64

// Encode returns pb.MsgData.Whereabouts, which is not nil; nil when a user has more than
// MaxOfMessage entries.
func (o OfMessage) Encode() []byte {
	if len(o.Receiver) > MaxOfMessage || len(o.Sender) > MaxOfMessage {
		return nil
	}
	m := &pb.MsgWhereabouts{}
	m.SetReceiver(nodesOf(o.Receiver))
	m.SetSender(nodesOf(o.Sender))
	b, err := proto.MarshalOptions{}.MarshalAppend([]byte{}, m)
	if err != nil {
		return nil // a required field is missing: there is none
	}
	return b
}

// nodesOf returns entries in the form of a message.
func nodesOf(entries []Entry) []*pb.MsgNode {
	nodes := make([]*pb.MsgNode, len(entries))
	for i, e := range entries {
		nodes[i] = &pb.MsgNode{}
		nodes[i].SetName([]byte(e.Name))
		nodes[i].SetDevices([]byte(Encode(e.Epoch, e.Devices)))
	}
	return nodes
}

// ParseOfMessage returns what pb.MsgData.Whereabouts says. It comes from another process, so each
// part is checked. nil, which is not known, gives an error as well.
func ParseOfMessage(b []byte) (OfMessage, error) {
	if b == nil {
		return OfMessage{}, errEntry
	}
	var m pb.MsgWhereabouts
	var o OfMessage
	err := proto.Unmarshal(b, &m)
	if err == nil {
		o.Receiver, err = entriesOf(m.GetReceiver())
	}
	if err == nil {
		o.Sender, err = entriesOf(m.GetSender())
	}
	if err != nil {
		return OfMessage{}, fmt.Errorf("whereabouts in a message: %w", err)
	}
	return o, nil
}

// entriesOf returns the entries of a user.
func entriesOf(nodes []*pb.MsgNode) ([]Entry, error) {
	if len(nodes) > MaxOfMessage {
		return nil, errEntry
	}
	var entries []Entry
	for _, n := range nodes {
		e, err := Decode(string(n.GetName()), string(n.GetDevices()))
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	rising := func(a, b Entry) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(entries, rising)
	if n := len(entries); len(slices.CompactFunc(entries,
		func(a, b Entry) bool { return a.Name == b.Name })) < n {
		return nil, fmt.Errorf("%w: a node twice", errEntry)
	}
	return entries, nil
}
