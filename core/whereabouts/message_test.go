package whereabouts

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"teamtalk/proto/pb"
)

// entry returns an entry with one device.
func entry(name string, epoch uint64) Entry {
	return Entry{Node: Node{name, epoch}, Devices: []Device{{Client: ios, Acks: true}}}
}

func TestOfMessage(t *testing.T) {
	for what, o := range map[string]OfMessage{
		"nowhere":  {},
		"receiver": {Receiver: []Entry{entry("a", 1), entry("b", 2)}},
		"both":     {Receiver: []Entry{entry("a", 1)}, Sender: []Entry{entry("b", 2)}},
		"many":     {Receiver: manyEntries(MaxOfMessage)},
	} {
		b := o.Encode()
		got, err := ParseOfMessage(b)
		if b == nil || err != nil || !cmp.Equal(got, o) {
			t.Errorf("%s: %x, %v: %s", what, b, err, cmp.Diff(o, got))
		}
	}
	for _, o := range []OfMessage{{Receiver: manyEntries(MaxOfMessage + 1)},
		{Sender: manyEntries(MaxOfMessage + 1)}} {
		if b := o.Encode(); b != nil {
			t.Errorf("more than a message may carry: %d bytes", len(b))
		}
	}
}

func TestTrusted(t *testing.T) {
	o := OfMessage{Receiver: []Entry{entry("a", 1)}, Sender: []Entry{entry("b", 2), entry("c", 3)}}
	for node, want := range map[Node]bool{{"b", 2}: true, {"c", 3}: true, {"a", 1}: false,
		{"b", 1}: false, {"b", 3}: false} {
		if o.Trusted(node) != want {
			t.Errorf("%v: %v", node, !want)
		}
	}
}

// manyEntries returns n entries.
func manyEntries(n int) (list []Entry) {
	for i := range n {
		list = append(list, entry(string([]byte{'a' + byte(i/26), 'a' + byte(i%26)}), 7))
	}
	return list
}

func TestRefusedOfMessage(t *testing.T) {
	encode := func(nodes ...*pb.MsgNode) []byte {
		m := &pb.MsgWhereabouts{}
		m.SetSender(nodes)
		b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	node := func(name, devices string) *pb.MsgNode {
		return pb.MsgNode_builder{Name: []byte(name), Devices: []byte(devices)}.Build()
	}
	for what, b := range map[string][]byte{
		"not known":  nil,
		"no message": {0xff},
		"no devices": encode(pb.MsgNode_builder{Name: []byte("a")}.Build()),
		"no entry":   encode(node("a", "7:1"), node("b", "7")),
		"no name":    encode(node("a/b", "7:1")),
		"twice":      encode(node("a", "7:1"), node("b", "7:1"), node("a", "8:1")),
		"many":       encode(nodesOf(manyEntries(MaxOfMessage + 1))...),
	} {
		if o, err := ParseOfMessage(b); err == nil || o.Receiver != nil || o.Sender != nil {
			t.Errorf("%s: read as %v", what, o)
		}
	}
}

// FuzzOfMessage reads any bytes. Entries that are accepted are read again from their encoding.
func FuzzOfMessage(f *testing.F) {
	f.Add(OfMessage{Receiver: []Entry{entry("b", 1), entry("c", 2)},
		Sender: []Entry{entry("a", 2)}}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := ParseOfMessage(bytes.Clone(b))
		if err != nil {
			return
		}
		if again, err := ParseOfMessage(o.Encode()); err != nil || !cmp.Equal(again, o) {
			t.Errorf("%v: %s", err, cmp.Diff(o, again))
		}
	})
}
