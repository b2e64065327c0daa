// Package whereabouts describes on which message servers the devices of a user are connected.
// Message servers of a cluster share it in a Store. Each of them writes what it has itself, and
// reads what the others have.
//
// A message server is a node: its name stays the same when it restarts, its epoch becomes larger
// (see package registry). So the entries of its earlier processes are recognised.
package whereabouts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"teamtalk/core/registry"
	"teamtalk/proto/pb"
)

// MaxDevices is the largest number of devices that a node keeps of a user. A user has one or two
// for each client type; a script that logs in again and again has more, and all of one type
// count once.
const MaxDevices = 16

// Device is the clients of one type that a user has on a node.
type Device struct {
	Client pb.ClientType
	// Acks says that one of them acknowledges what is delivered to it.
	Acks bool
}

// Node identifies a process that holds clients.
type Node struct {
	Name  string // see registry.CheckName
	Epoch uint64 // 1 to registry.MaxEpoch
}

// Entry is what one node has of a user.
type Entry struct {
	Node
	Devices []Device // at least one, sorted, each type once
}

// HasPC reports whether one of the devices is a PC client: not a phone.
func (e Entry) HasPC() bool {
	return slices.ContainsFunc(e.Devices, func(d Device) bool { return !d.Client.IsMobile() })
}

// HasPhone reports whether one of the devices is a phone.
func (e Entry) HasPhone() bool {
	return slices.ContainsFunc(e.Devices, func(d Device) bool { return d.Client.IsMobile() })
}

// Update sets what the writing node has of a user. Without devices it has none.
type Update struct {
	User    uint32
	Devices []Device
}

// Result is what an update has found.
type Result struct {
	// Before is what the same process has written before; nil: nothing.
	Before []Device
	// Others are the entries of the other nodes, sorted by name, those included whose process
	// has ended.
	Others []Entry
	// Version is larger than that of each earlier update of the user, while the store keeps
	// what it holds.
	Version uint64
	// Err says that the update was perhaps not made, and the rest is not known.
	Err error
}

// Found is the entries of a user, of all nodes, sorted by name, those included whose process has
// ended.
type Found struct {
	Entries []Entry
	Err     error // the entries are not known
}

// Store keeps the entries of all users, and the marks of groups. Any goroutine.
type Store interface {
	Groups
	// Apply writes updates of one node and returns their results in the same order. Each is
	// atomic, and an update that is repeated changes nothing. A user must occur once.
	Apply(ctx context.Context, by Node, updates []Update) []Result
	// Lookup returns what is known of users, in the same order.
	Lookup(ctx context.Context, users []uint32) []Found
	// Remove removes entries whose process has ended, unless the node has written another one
	// meanwhile.
	Remove(ctx context.Context, user uint32, ended []Node) error
}

// errEntry is the error for bytes that are no entry, and errMark for those that are no mark.
var (
	errEntry = errors.New("no whereabouts of a user")
	errMark  = errors.New("no mark of a message server")
)

// maxValue bounds an encoded entry: the epoch, and devices of up to 12 bytes each.
const maxValue = 16 + MaxDevices*12

// Encode returns the value that a store keeps for an entry under the node's name: the epoch, and
// after a colon the numbers of the client types, separated by commas, with an a behind those that
// acknowledge: "7:1,17a". Devices of one type are one, and those above MaxDevices are left out.
func Encode(epoch uint64, devices []Device) string {
	var b strings.Builder
	b.WriteString(strconv.FormatUint(epoch, 10))
	sep := byte(':')
	for _, d := range Sorted(devices) {
		b.WriteByte(sep)
		sep = ','
		b.WriteString(strconv.FormatInt(int64(d.Client), 10))
		if d.Acks {
			b.WriteByte('a')
		}
	}
	return b.String()
}

// Sorted returns the devices as an entry has them: sorted, each type once, MaxDevices at most.
func Sorted(devices []Device) []Device {
	list := slices.Clone(devices)
	slices.SortFunc(list, func(a, b Device) int {
		switch {
		case a.Client != b.Client:
			return int(a.Client) - int(b.Client)
		case a.Acks == b.Acks:
			return 0
		case a.Acks:
			return -1
		}
		return 1
	})
	list = slices.CompactFunc(list, func(a, b Device) bool { return a.Client == b.Client })
	return list[:min(len(list), MaxDevices)]
}

// Decode returns the entry that a value under a node's name stands for. Values come from other
// processes, so each part is checked.
func Decode(name, value string) (Entry, error) {
	e := Entry{Node: Node{Name: name}}
	epoch, list, ok := strings.Cut(value, ":")
	if !ok || len(value) > maxValue || registry.CheckName(name) != nil {
		return Entry{}, errEntry
	}
	var err error
	if e.Epoch, err = strconv.ParseUint(epoch, 10, 64); err != nil || e.Epoch == 0 ||
		e.Epoch > registry.MaxEpoch {
		return Entry{}, errEntry
	}
	for text := range strings.SplitSeq(list, ",") {
		number, acks := strings.CutSuffix(text, "a")
		n, err := strconv.ParseUint(number, 10, 31)
		if err != nil || len(e.Devices) == MaxDevices {
			return Entry{}, errEntry
		}
		e.Devices = append(e.Devices, Device{Client: pb.ClientType(n), Acks: acks})
	}
	if !slices.Equal(e.Devices, Sorted(e.Devices)) || Encode(e.Epoch, e.Devices) != value {
		return Entry{}, fmt.Errorf("%w: devices are not in order", errEntry)
	}
	return e, nil
}

// Known is what a process knows of the message servers. It judges whether the process that wrote
// an entry still runs.
type Known struct {
	epochs map[string]uint64
	latest uint64
}

// NewKnown returns what a list of nodes says. latest is the largest epoch that the process has
// seen of any node, at any time.
func NewKnown(nodes []registry.Node, latest uint64) Known {
	k := Known{epochs: make(map[string]uint64, len(nodes)), latest: latest}
	for _, n := range nodes {
		k.epochs[n.Name] = n.Epoch
		k.latest = max(k.latest, n.Epoch)
	}
	return k
}

// Latest returns the largest epoch seen.
func (k Known) Latest() uint64 { return k.latest }

// Ended reports whether the process of a node has ended: another one has its name, or none has it
// although later ones are known. A process that has registered a moment ago is not known yet: its
// epoch is larger than any that was seen, and it has not ended.
func (k Known) Ended(n Node) bool {
	epoch, known := k.epochs[n.Name]
	if known {
		return n.Epoch < epoch
	}
	return n.Epoch <= k.latest
}
