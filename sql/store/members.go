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

// MySQL alone decides the membership of groups. The cache holds members with the version
// of their group. Every change of members, also by a C++ server, raises the version after
// or together with the rows. So the version on the master tells whether the cached
// members are current.

// members is the part that reads the members of groups.
type members struct {
	db    *databases
	cache *memberCache
}

// newMembers makes the part with a cache of memberships.
func newMembers(db *databases, memberships int) *members {
	return &members{db: db, cache: newMemberCache(memberships)}
}

// membership holds the members of a group at a version.
type membership struct {
	version uint32
	users   []uint32 // in increasing order; read only
}

// has reports whether user is a member.
func (m membership) has(user uint32) bool {
	_, ok := slices.BinarySearch(m.users, user)
	return ok
}

// memberCache holds the members of groups, up to a number of memberships in total.
type memberCache struct {
	mu    sync.Mutex
	max   int
	total int
	lru   *simplelru.LRU[uint32, membership]
}

// groupCost is the cost of a group in the cache besides its members, in memberships.
const groupCost = 30

func newMemberCache(max int) *memberCache {
	c := &memberCache{max: max}
	// The bound on groups is never reached before the bound on memberships.
	c.lru, _ = simplelru.NewLRU(max/groupCost+1, func(_ uint32, m membership) {
		c.total -= len(m.users) + groupCost
	})
	return c
}

// get returns the members of a group if the cache has them at that version.
func (c *memberCache) get(group, version uint32) (membership, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.lru.Get(group)
	return m, ok && m.version == version
}

// put adds the members of a group, and evicts the groups used least recently.
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

// put adds the members of a group to the cache.
func (s *members) put(group uint32, m membership) { s.cache.put(group, m) }

// checkSenders sets the error of messages to groups that do not exist, or whose members
// do not include the sender.
func (s *members) checkSenders(ctx context.Context, batch []*im.Message) error {
	var ids []uint32
	for _, m := range batch {
		if m.Type.IsGroup() && m.Err == nil {
			ids = append(ids, m.To)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	groups, err := s.membersOf(ctx, ids)
	if err != nil {
		return s.db.dbError("look up groups", err)
	}
	for _, m := range batch {
		if !m.Type.IsGroup() || m.Err != nil {
			continue
		}
		g, ok := groups[m.To]
		switch {
		case !ok:
			m.Err = im.Errorf(im.Invalid, "group %d does not exist", m.To)
		case !g.has(m.From):
			m.Err = im.Errorf(im.Denied, "user %d is not in group %d", m.From, m.To)
		default:
			m.GroupVersion = g.version
		}
	}
	return nil
}

// membersOf returns the current members of the groups that exist. It costs one query for
// the versions, and one for the members that have changed.
func (s *members) membersOf(ctx context.Context, ids []uint32) (map[uint32]membership, error) {
	versions, err := groupVersions(ctx, s.db.master, ids)
	if err != nil {
		return nil, err
	}
	return s.membersAt(ctx, s.db.master, versions)
}

// membersAt returns the members of groups at these versions, or at later ones.
func (s *members) membersAt(ctx context.Context, db querier,
	versions []im.GroupVersion) (map[uint32]membership, error) {
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
	s.db.m.loads.Add(float64(len(missing)))
	read, err := readMembers(ctx, db, missing)
	for g, m := range read {
		found[g] = m
		s.cache.put(g, m)
	}
	return found, err
}

// groupVersions reads the versions of the groups that exist.
func groupVersions(ctx context.Context, db querier, ids []uint32) ([]im.GroupVersion, error) {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	var list []im.GroupVersion
	err := inChunks(slices.Compact(ids), 1000, func(part []uint32) error {
		rows, err := db.QueryContext(ctx, "SELECT id, version FROM IMGroup "+
			"WHERE status=0 AND id IN ("+join(part)+")")
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

// readMembers reads the members of groups with the group's version. One statement reads
// both, so that they belong together. A group without members has one row in the answer.
func readMembers(ctx context.Context, db querier, ids []uint32) (map[uint32]membership, error) {
	found := make(map[uint32]membership, len(ids))
	err := inChunks(ids, chunk, func(part []uint32) error {
		rows, err := db.QueryContext(ctx, "SELECT g.id, g.version, m.userId FROM IMGroup AS g "+
			"LEFT JOIN IMGroupMember AS m ON m.groupId=g.id AND m.status=0 "+
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
		// a C++ server may have inserted a member twice
		m.users = slices.Clip(slices.Compact(m.users))
		found[g] = m
	}
	return found, err
}

// joinTime is the SQL expression for the time of joining. C++ servers do not change
// created when a user joins again.
const joinTime = "GREATEST(created, updated)"

// joining is where a member begins to see a group. Ids decide it: messages are stored in
// their order, while the clock of a message server gives their times. A member that a C++
// server has added has a time only.
type joining struct {
	byID  bool
	after uint32 // with byID: the group's highest message id at the joining
	at    uint32 // the unix second of joining
}

// joiningColumns are the columns of a joining. joinMsgId counts only with the time of the
// joining that wrote it: servers that do not know it may have let the user join again.
const joiningColumns = "joinedAt=" + joinTime + ", joinMsgId, " + joinTime

// fields returns the destinations for joiningColumns.
func (j *joining) fields() []any { return []any{&j.byID, &j.after, &j.at} }

// later reports whether j is to be used instead of k, when a C++ server has inserted a
// member twice.
func (j joining) later(k joining) bool { return j.at > k.at }

// sees reports whether the member may see a message of the group.
func (j joining) sees(m *im.Message) bool {
	if j.byID {
		return m.ID > j.after
	}
	return m.Created >= j.at
}

// where is sees as the end of an SQL condition.
func (j joining) where() string {
	if j.byID {
		return fmt.Sprintf(" AND msgId>%d", j.after)
	}
	return fmt.Sprintf(" AND created>=%d", j.at)
}

// joiningOf returns where a user begins to see a group. ok is false when the user is not a
// member.
func (s *members) joiningOf(ctx context.Context, user, group uint32) (j joining, ok bool,
	err error) {
	rows, err := s.db.master.QueryContext(ctx, fmt.Sprintf("SELECT "+joiningColumns+" "+
		"FROM IMGroupMember WHERE groupId=%d AND userId=%d AND status=0 "+
		"AND EXISTS (SELECT 1 FROM IMGroup WHERE id=%[1]d AND status=0)", group, user))
	if err != nil {
		return joining{}, false, err
	}
	defer rows.Close()
	for rows.Next() {
		var row joining
		if err := rows.Scan(row.fields()...); err != nil {
			return joining{}, false, err
		}
		if !ok || row.later(j) {
			j, ok = row, true
		}
	}
	return j, ok, rows.Err()
}

// joinedGroup is a group of a user.
type joinedGroup struct {
	user, group uint32
	joining
}

// joinedGroupsQuery returns the query for the groups of users.
func joinedGroupsQuery(users []uint32) string {
	return "SELECT userId, groupId, " + joiningColumns + " FROM IMGroupMember AS m " +
		"WHERE status=0 AND userId IN (" + join(users) + ") " +
		"AND EXISTS (SELECT 1 FROM IMGroup AS g WHERE g.id=m.groupId AND g.status=0)"
}

// joinedGroups returns the groups of users, from the master.
func (s *members) joinedGroups(ctx context.Context, users []uint32) ([]joinedGroup, error) {
	var list []joinedGroup
	type key struct{ user, group uint32 }
	at := map[key]int{} // index into list
	err := inChunks(users, chunk, func(part []uint32) error {
		rows, err := s.db.master.QueryContext(ctx, joinedGroupsQuery(part))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var j joinedGroup
			if err := rows.Scan(append([]any{&j.user, &j.group}, j.fields()...)...); err != nil {
				return err
			}
			if i, ok := at[key{j.user, j.group}]; !ok {
				at[key{j.user, j.group}] = len(list)
				list = append(list, j)
			} else if j.later(list[i].joining) {
				list[i] = j
			}
		}
		return rows.Err()
	})
	return list, s.db.dbError("read users' groups", err)
}

// joinTimes reads the members of a group with their times of joining.
func joinTimes(ctx context.Context, db querier, group uint32) (map[uint32]uint32, error) {
	rows, err := db.QueryContext(ctx, fmt.Sprintf("SELECT userId, "+joinTime+" "+
		"FROM IMGroupMember WHERE groupId=%d AND status=0", group))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	joined := map[uint32]uint32{}
	for rows.Next() {
		var user, at uint32
		if err := rows.Scan(&user, &at); err != nil {
			return nil, err
		}
		joined[user] = max(joined[user], at)
	}
	return joined, rows.Err()
}
