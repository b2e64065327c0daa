package im

import "context"

// Exporter finds all that a store has of a user, also what clients do not list any more. Both
// stores implement it, beside servers that use them.
type Exporter interface {
	// PeersOf returns users with which a user has a conversation, with ids above after, in
	// order, at most limit.
	PeersOf(ctx context.Context, user, after uint32, limit int) ([]uint32, error)
	// GroupsEver returns groups that a user is or was in, as far as the store knows, or has sent
	// messages to, with ids above after, in order. last is the id that the next call continues
	// after, 0 when there are no more.
	GroupsEver(ctx context.Context, user, after uint32) (groups []uint32, last uint32, err error)
	// SentToGroup returns the messages of a user in a group with ids above after, in order, at
	// most limit, whether the user is a member or not.
	SentToGroup(ctx context.Context, user, group, after uint32, limit int) ([]Message, error)
}
