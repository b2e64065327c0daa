package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"teamtalk/core/im"
)

// MySQL alone says who is in a group. Its members are cached under the group's version, which whoever changes them raises, after the rows or together with
// them; C++ servers do so too. So whoever has just read the version on the master knows whether the cache is right.

// members is the part that knows the members of groups.
type members struct {
	*databases
	cache *memberCache
}

// membership is a group's members at a version.
type membership struct {
	version uint32
	users   []uint32 // in increasing order; not to be changed
}

// has reports whether a user is in.
func (m membership) has(user uint32) bool {
	_, ok := slices.BinarySearch(m.users, user)
	return ok
}

// memberCache keeps groups' members, up to so many memberships in all.
type memberCache struct {
	mu    sync.Mutex
	max   int
	total int
	lru   *simplelru.LRU[uint32, membership]
}

// groupCost is what a group costs in the cache besides its members, in memberships.
const groupCost = 30

func newMemberCache(max int) *memberCache {
	c := &memberCache{max: max}
	// Its bound on groups is never reached before that on memberships.
	c.lru, _ = simplelru.NewLRU(max/groupCost+1, func(_ uint32, m membership) { c.total -= len(m.users) + groupCost })
	return c
}

// get returns a group's members if they are known at that version.
func (c *memberCache) get(group, version uint32) (membership, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.lru.Get(group)
	return m, ok && m.version == version
}

// put keeps a group's members.
func (c *memberCache) put(group uint32, m membership) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Remove(group)
	c.total += len(m.users) + groupCost
	c.lru.Add(group, m)
	for c.total > c.max && c.lru.Len() > 1 {
		c.lru.RemoveOldest()
	}
}

// checkSenders marks messages to groups that are not there or that the sender is not in.
func (s *members) checkSenders(ctx context.Context, items []*item) error {
	var ids []uint32
	for _, it := range items {
		if it.m.Type.IsGroup() && it.m.Err == nil {
			ids = append(ids, it.m.To)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	groups, err := s.membersOf(ctx, ids)
	if err != nil {
		return s.dbError("look up groups", err)
	}
	for _, it := range items {
		if !it.m.Type.IsGroup() || it.m.Err != nil {
			continue
		}
		g, ok := groups[it.m.To]
		switch {
		case !ok:
			it.m.Err = im.Errorf(im.Invalid, "group %d does not exist", it.m.To)
		case !g.has(it.m.From):
			it.m.Err = im.Errorf(im.Denied, "user %d is not in group %d", it.m.From, it.m.To)
		default:
			it.m.GroupVersion = g.version
		}
	}
	return nil
}

// membersOf returns the members of groups as they are now, leaving out groups that do not exist: by one query for their versions, and one for members that
// have changed.
func (s *members) membersOf(ctx context.Context, ids []uint32) (map[uint32]membership, error) {
	versions, err := groupVersions(ctx, s.master, ids)
	if err != nil {
		return nil, err
	}
	return s.membersAt(ctx, s.master, versions)
}

// membersAt returns the members of groups at these versions, or later ones.
func (s *members) membersAt(ctx context.Context, db querier, versions []im.GroupVersion) (map[uint32]membership, error) {
	found := make(map[uint32]membership, len(versions))
	var missing []uint32
	for _, v := range versions {
		if m, ok := s.cache.get(v.ID, v.Version); ok {
			found[v.ID] = m
		} else {
			missing = append(missing, v.ID)
		}
	}
	if len(missing) == 0 {
		return found, nil
	}
	s.m.loads.Add(float64(len(missing)))
	read, err := readMembers(ctx, db, missing)
	for g, m := range read {
		found[g] = m
		s.cache.put(g, m)
	}
	return found, err
}

// groupVersions reads the versions of those groups that exist.
func groupVersions(ctx context.Context, db querier, ids []uint32) ([]im.GroupVersion, error) {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	var list []im.GroupVersion
	err := inChunks(slices.Compact(ids), 1000, func(part []uint32) error {
		rows, err := db.QueryContext(ctx, "SELECT id, version FROM IMGroup WHERE status=0 AND id IN ("+join(part)+")")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var v im.GroupVersion
			if err := rows.Scan(&v.ID, &v.Version); err != nil {
				return err
			}
			list = append(list, v)
		}
		return rows.Err()
	})
	return list, err
}

// readMembers reads the members of groups, and the version they are of: in one statement, so that both are of one moment. (A group has one row in the
// answer when nobody is in it.)
func readMembers(ctx context.Context, db querier, ids []uint32) (map[uint32]membership, error) {
	found := make(map[uint32]membership, len(ids))
	err := inChunks(ids, chunk, func(part []uint32) error {
		rows, err := db.QueryContext(ctx, "SELECT g.id, g.version, m.userId FROM IMGroup AS g LEFT JOIN IMGroupMember AS m ON m.groupId=g.id AND m.status=0 "+
			"WHERE g.status=0 AND g.id IN ("+join(part)+")")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var group uint32
			var user sql.NullInt64
			var m membership
			if err := rows.Scan(&group, &m.version, &user); err != nil {
				return err
			}
			m.users = found[group].users
			if user.Valid {
				m.users = append(m.users, uint32(user.Int64))
			}
			found[group] = m
		}
		return rows.Err()
	})
	for g, m := range found {
		slices.Sort(m.users)
		m.users = slices.Clip(slices.Compact(m.users)) // C++ servers may have made a member twice
		found[g] = m
	}
	return found, err
}

// joinTime is an SQL expression for the time since which a row's user is in: C++ servers do not touch created when a user comes again.
const joinTime = "GREATEST(created, updated)"

// joinedAt returns since when a user is in a group, unix seconds; ok is false when the user is not in.
func (s *members) joinedAt(ctx context.Context, user, group uint32) (at uint32, ok bool, err error) {
	var v sql.NullInt64
	query := fmt.Sprintf("SELECT MAX("+joinTime+") FROM IMGroupMember WHERE groupId=%d AND userId=%d AND status=0 AND EXISTS (SELECT 1 FROM IMGroup WHERE id=%[1]d AND status=0)",
		group, user)
	err = s.master.QueryRowContext(ctx, query).Scan(&v)
	return uint32(v.Int64), v.Valid, err
}

// joinedGroup is a group that a user is in, since a time.
type joinedGroup struct{ user, group, since uint32 }

// joinedGroups returns the groups of users, from the master.
func (s *members) joinedGroups(ctx context.Context, users []uint32) ([]joinedGroup, error) {
	var list []joinedGroup
	err := inChunks(users, chunk, func(part []uint32) error {
		rows, err := s.master.QueryContext(ctx, "SELECT m.userId, m.groupId, MAX(GREATEST(m.created, m.updated)) FROM IMGroupMember AS m JOIN IMGroup AS g ON g.id=m.groupId "+
			"WHERE m.status=0 AND g.status=0 AND m.userId IN ("+join(part)+") GROUP BY m.userId, m.groupId")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var j joinedGroup
			if err := rows.Scan(&j.user, &j.group, &j.since); err != nil {
				return err
			}
			list = append(list, j)
		}
		return rows.Err()
	})
	return list, s.dbError("read users' groups", err)
}
