package fill

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// findJoinTimes reads the time from which all members of a group see its messages.
func (f *mysqlFill) findJoinTimes(ctx context.Context, groups []thread) error {
	if len(groups) == 0 {
		return nil
	}
	joined := map[uint32]uint32{}
	err := f.each(ctx,
		"SELECT m.groupId, MAX(GREATEST(m.created, m.updated)) FROM IMGroupMember m JOIN "+
			"IMGroup g ON g.id=m.groupId WHERE m.status=0 GROUP BY m.groupId", 2,
		func(v []uint32) error {
			joined[v[0]] = v[1]
			return nil
		})
	if err != nil {
		return err
	}
	for i := range groups {
		t := &groups[i]
		at, ok := joined[t.id]
		if !ok {
			return im.Errorf(im.NotFound, "group %d does not exist, or has no members", t.id)
		}
		if err := t.after(0, at); err != nil {
			return err
		}
	}
	return nil
}

// writeChats updates the groups' lastChated.
func (f *mysqlFill) writeChats(ctx context.Context, groups []thread) error {
	for i := range groups {
		if t := &groups[i]; t.n > 0 {
			if _, err := f.db.ExecContext(ctx, fmt.Sprintf(
				"UPDATE IMGroup SET lastChated=GREATEST(lastChated, %d) WHERE id=%d", t.until,
				t.id)); err != nil {
				return err
			}
		}
	}
	return nil
}

// listed is a row of IMRecentSession.
type listed struct {
	user, peer uint32
	kind       pb.SessionType
	updated    uint32
}

// writeSessions adds the conversations that got messages to the users' lists.
func (f *mysqlFill) writeSessions(ctx context.Context, relations, groups []thread) error {
	var list []listed
	for i := range relations {
		if t := &relations[i]; t.n > 0 {
			list = append(list, listed{t.a, t.b, pb.SessionType_SESSION_TYPE_SINGLE, t.until},
				listed{t.b, t.a, pb.SessionType_SESSION_TYPE_SINGLE, t.until})
		}
	}
	for i := range groups {
		t := &groups[i]
		for _, user := range t.members {
			if t.n > 0 {
				list = append(list, listed{user, t.id, pb.SessionType_SESSION_TYPE_GROUP, t.until})
			}
		}
	}
	slices.SortFunc(list, func(a, b listed) int {
		return cmp.Or(compare2(a.user, b.user, a.peer, b.peer), cmp.Compare(a.kind, b.kind))
	})
	return f.insert(ctx, "lists of conversations",
		"INSERT INTO IMRecentSession (userId,peerId,type,status,created,updated) VALUES ",
		" ON DUPLICATE KEY UPDATE status=0, removedMsgId=0, updated=GREATEST(updated, "+
			"VALUES(updated))", len(list), func(i int, b []byte) []byte {
			s := list[i]
			return fmt.Appendf(b, "(%d,%d,%d,0,%d,%[4]d)", s.user, s.peer, s.kind, s.updated)
		})
}

// compare2 compares a1 with b1, and a2 with b2 if those are equal.
func compare2(a1, b1, a2, b2 uint32) int { return cmp.Or(cmp.Compare(a1, b1), cmp.Compare(a2, b2)) }
