package whereabouts

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"teamtalk/core/registry"
	"teamtalk/proto/pb"
)

const (
	windows = pb.ClientType_CLIENT_TYPE_WINDOWS
	ios     = pb.ClientType_CLIENT_TYPE_IOS
)

func TestEntry(t *testing.T) {
	devices := []Device{{Client: ios, Acks: true}, {Client: windows}, {Client: ios}}
	value := Encode(7, devices)
	if want := "7:1,17a"; value != want {
		t.Errorf("%q, want %q", value, want)
	}
	got, err := Decode("msg-1", value)
	want := Entry{Node: Node{"msg-1", 7}, Devices: []Device{{Client: windows},
		{Client: ios, Acks: true}}}
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v: %s", err, cmp.Diff(want, got))
	}
	if !got.HasPC() || (Entry{Devices: []Device{{Client: ios}}}).HasPC() {
		t.Error("a phone is not a PC")
	}
	if !got.HasPhone() || (Entry{Devices: []Device{{Client: windows}}}).HasPhone() {
		t.Error("a PC is not a phone")
	}
	var many []Device
	for i := range 2 * MaxDevices {
		many = append(many, Device{Client: pb.ClientType(i)})
	}
	if e, err := Decode("a", Encode(registry.MaxEpoch, many)); err != nil ||
		len(e.Devices) != MaxDevices {
		t.Errorf("of many devices: %v, %v", e, err)
	}
}

func TestRefusedEntries(t *testing.T) {
	for _, value := range []string{"", "7", "7:", ":1", "0:1", "x:1", "-1:1", "7:1,", "7:a", "7:1b",
		"7:1,1", "7:17,1", "07:1", "7:01", "7:+1", "7:1aa", "7:4294967296", "1000000000000000:1",
		"7:1," + strings.Repeat("2,", 200) + "3"} {
		if e, err := Decode("a", value); err == nil {
			t.Errorf("%q is read as %v", value, e)
		}
	}
	if _, err := Decode("a/b", "7:1"); err == nil {
		t.Error("a name that is none is read")
	}
}

// FuzzDecode reads any bytes. An entry that is accepted is written as it was read.
func FuzzDecode(f *testing.F) {
	f.Add("msg-1", "7:1,17a")
	f.Add("a", "0:")
	f.Fuzz(func(t *testing.T, name, value string) {
		e, err := Decode(name, value)
		if err == nil && (Encode(e.Epoch, e.Devices) != value || len(e.Devices) == 0 ||
			registry.CheckName(e.Name) != nil) {
			t.Errorf("%q of %q is read as %v", value, name, e)
		}
	})
}

func TestEnded(t *testing.T) {
	k := NewKnown([]registry.Node{{Name: "a", Epoch: 5}, {Name: "b", Epoch: 8}}, 6)
	for node, want := range map[Node]bool{
		{"a", 5}:  false,
		{"a", 4}:  true,  // restarted
		{"a", 9}:  false, // restarted a moment ago
		{"c", 7}:  true,  // gone
		{"c", 8}:  true,
		{"c", 9}:  false, // started a moment ago
		{"b", 8}:  false,
		{"b", 11}: false,
	} {
		if got := k.Ended(node); got != want {
			t.Errorf("%v has ended: %v, want %v", node, got, want)
		}
	}
	if k.Latest() != 8 || NewKnown(nil, 6).Latest() != 6 {
		t.Error("the largest epoch is not kept")
	}
}

func TestMark(t *testing.T) {
	n, err := DecodeMark("msg-1", EncodeMark(7))
	if err != nil || n != (Node{"msg-1", 7}) {
		t.Errorf("%v, %v", n, err)
	}
	for _, value := range []string{"", "0", "07", "7:", "x", "-1", "+7", "1000000000000000"} {
		if n, err := DecodeMark("a", value); err == nil {
			t.Errorf("%q is read as %v", value, n)
		}
	}
	if _, err := DecodeMark("a/b", "7"); err == nil {
		t.Error("a name that is none is read")
	}
}

// FuzzDecodeMark reads any bytes. A mark that is accepted is written as it was read.
func FuzzDecodeMark(f *testing.F) {
	f.Add("msg-1", "7")
	f.Add("a", "0")
	f.Fuzz(func(t *testing.T, name, value string) {
		n, err := DecodeMark(name, value)
		if err == nil && (EncodeMark(n.Epoch) != value || n.Name != name ||
			registry.CheckName(name) != nil) {
			t.Errorf("%q of %q is read as %v", value, name, n)
		}
	})
}
