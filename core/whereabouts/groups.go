package whereabouts

import (
	"context"
	"strconv"

	"teamtalk/core/registry"
)

// Group is what a store has of a group: which message servers have a member of it. They are
// marked. Marks too many are allowed.
type Group struct {
	// Nodes are the marked message servers, sorted by name, those included whose process has
	// ended.
	Nodes []Node
	// Version is a version of the group, as in pb.MsgData.GroupVersion; 0: none is known. Each
	// message server with a user that is a member since this version, or an earlier one, has
	// its mark. Those with users that were added later may lack it.
	Version uint32
	Err     error // what the store has is not known
}

// Mark is marks to be set for a group.
type Mark struct {
	Group uint32
	// Nodes are marked. A mark of a later process of a node stays.
	Nodes []Node
	// Version becomes that of the group, if the group has Since or a later version, and none
	// later than Version. 0: the version is not changed, and no answer is wanted.
	Version, Since uint32
}

// Unmark is a mark to be removed from a group.
type Unmark struct {
	Group uint32
	Node  Node // a mark of another process of the node stays
	// Version is the latest version that the group may have. With a later one the mark stays.
	Version uint32
}

// EveryVersion is the Version of an Unmark that is made whatever version the group has.
const EveryVersion = 1<<32 - 1

// Groups keeps the marks of groups. Any goroutine.
type Groups interface {
	// Mark sets marks, and returns what the groups have then, in the same order. Each is
	// atomic, and may be repeated. A group may occur several times.
	Mark(ctx context.Context, marks []Mark) []Group
	// Unmark removes marks, each atomically, and returns the errors in the same order. Without
	// marks the group has no version.
	Unmark(ctx context.Context, marks []Unmark) []error
	// LookupAll returns what is known of users and of groups, in the same order, in one call.
	LookupAll(ctx context.Context, users, groups []uint32) ([]Found, []Group)
}

// EncodeMark returns the value that a store keeps for a mark under the node's name.
func EncodeMark(epoch uint64) string { return strconv.FormatUint(epoch, 10) }

// DecodeMark returns the mark that a value under a node's name stands for. Values come from other
// processes, so each part is checked.
func DecodeMark(name, value string) (Node, error) {
	epoch, err := strconv.ParseUint(value, 10, 64)
	if err != nil || epoch == 0 || epoch > registry.MaxEpoch || EncodeMark(epoch) != value ||
		registry.CheckName(name) != nil {
		return Node{}, errMark
	}
	return Node{Name: name, Epoch: epoch}, nil
}
