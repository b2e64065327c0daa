package move

import (
	"context"
	"errors"

	"teamtalk/core/im"
)

// all is a limit that no user's lists reach.
const all = 1 << 30

// readUnread emits the unread counts of all users, as a store tells them.
func readUnread(ctx context.Context, s im.Store, emit func(row) error) error {
	return eachUser(ctx, s, func(page []im.User) error {
		for _, u := range page {
			list, _, err := s.UnreadCounts(ctx, u.ID, all)
			if err != nil {
				return err
			}
			for _, c := range list {
				if err := emit(numbers(u.ID, uint32(c.Type), c.Peer, c.Count)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// readLists emits what users see first: their lists of conversations, each with its last message,
// and their groups with the versions.
func readLists(ctx context.Context, s im.Store, emit func(row) error) error {
	return eachUser(ctx, s, func(page []im.User) error {
		for _, u := range page {
			list, err := s.RecentSessions(ctx, u.ID, 0, all)
			if err != nil {
				return err
			}
			for _, c := range list {
				m := c.Latest
				r := append(numbers(u.ID, uint32(c.Type), c.Peer, m.ID, m.From, m.Created,
					uint32(m.Type)), m.Data)
				if m.Data == nil {
					r[len(r)-1] = []byte{}
				}
				if err := emit(r); err != nil {
					return err
				}
			}
			in, err := s.GroupsOf(ctx, u.ID, 0, 0)
			for _, g := range in {
				err = errors.Join(err, emit(numbers(u.ID, g.ID, g.Version)))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// compareViews compares what users see in both stores.
func (m *move) compareViews(ctx context.Context) error {
	const what = "lists of conversations"
	m.tell("compare "+what, 0)
	var sums [2]sum
	for i, s := range []side{m.from, m.to} {
		if err := readLists(ctx, s.view(), func(r row) error {
			sums[i].add(r)
			return nil
		}); err != nil {
			return err
		}
	}
	m.pairs = append(m.pairs, Count{what, sums[0].Rows})
	return same(what, sums[0], sums[1])
}
