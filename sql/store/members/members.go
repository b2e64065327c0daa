// Package members reads the members of groups, and where each begins to see its group.
package members

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/sql/store/database"
)

// MySQL alone decides the membership of groups. The cache holds members with the version
// of their group. Every change of members, also by a C++ server, raises the version after
// or together with the rows. So the version on the master tells whether the cached
// members are current.

// Reader is the part that reads the members of groups.
type Reader struct {
	db    *database.DB
	cache *memberCache
	loads prometheus.Counter
}

// New makes the part with a cache of memberships.
func New(db *database.DB, memberships int) *Reader {
	return &Reader{db: db, cache: newMemberCache(memberships),
		loads: db.Metrics.Counter("group_loads", "Groups whose members were read because the "+
			"cache lacked them or they had changed.")}
}

// Members holds the members of a group at a version.
type Members struct {
	Version uint32
	Users   []uint32 // in increasing order; read only
}

// Has reports whether user is a member.
func (m Members) Has(user uint32) bool {
	_, ok := slices.BinarySearch(m.Users, user)
	return ok
}

// memberCache holds the members of groups, up to a number of memberships in total.
type memberCache struct {
	mu    sync.Mutex
	max   int
	total int
	lru   *simplelru.LRU[uint32, Members]
}

// groupCost is the cost of a group in the cache besides its members, in memberships.
const groupCost = 30

func newMemberCache(max int) *memberCache {
	c := &memberCache{max: max}
	// The bound on groups is never reached before the bound on memberships.
	c.lru, _ = simplelru.NewLRU(max/groupCost+1, func(_ uint32, m Members) {
		c.total -= len(m.Users) + groupCost
	})
	return c
}

// get returns the members of a group if the cache has them at that version.
func (c *memberCache) get(group, version uint32) (Members, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.lru.Get(group)
	return m, ok && m.Version == version
}

// put adds the members of a group, and evicts the groups used least recently.
func (c *memberCache) put(group uint32, m Members) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lru.Remove(group)
	c.total += len(m.Users) + groupCost
	c.lru.Add(group, m)
	for c.total > c.max && c.lru.Len() > 1 {
		c.lru.RemoveOldest()
	}
}

// Put adds the members of a group to the cache.
func (s *Reader) Put(group uint32, m Members) { s.cache.put(group, m) }

// CheckSenders sets the error of messages to groups that do not exist, or whose members
// do not include the sender. It skips messages that have an error.
func (s *Reader) CheckSenders(ctx context.Context, batch []*im.Message) error {
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
		return s.db.SQLError("look up groups", err)
	}
	for _, m := range batch {
		if !m.Type.IsGroup() || m.Err != nil {
			continue
		}
		g, ok := groups[m.To]
		switch {
		case !ok:
			m.Err = im.Errorf(im.Invalid, "group %d does not exist", m.To)
		case !g.Has(m.From):
			m.Err = im.Errorf(im.Denied, "user %d is not in group %d", m.From, m.To)
		default:
			m.GroupVersion = g.Version
		}
	}
	return nil
}

// membersOf returns the current members of the groups that exist. It costs one query for
// the versions, and one for the members that have changed.
func (s *Reader) membersOf(ctx context.Context, ids []uint32) (map[uint32]Members, error) {
	versions, err := Versions(ctx, s.db.Master, ids)
	if err != nil {
		return nil, err
	}
	return s.At(ctx, s.db.Master, versions)
}

// At returns the members of groups at these versions, or at later ones.
func (s *Reader) At(ctx context.Context, db database.Querier,
	versions []im.GroupVersion) (map[uint32]Members, error) {
	found := make(map[uint32]Members, len(versions))
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
	s.loads.Add(float64(len(missing)))
	read, err := readMembers(ctx, db, missing)
	for g, m := range read {
		found[g] = m
		s.cache.put(g, m)
	}
	return found, err
}

// Versions reads the versions of the groups that exist.
func Versions(ctx context.Context, db database.Querier, ids []uint32) ([]im.GroupVersion, error) {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	var list []im.GroupVersion
	err := database.InChunks(slices.Compact(ids), 1000, func(part []uint32) error {
		rows, err := db.QueryContext(ctx, "SELECT id, version FROM IMGroup "+
			"WHERE status=0 AND id IN ("+database.Join(part)+")")
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
func readMembers(ctx context.Context, db database.Querier, ids []uint32) (map[uint32]Members,
	error) {
	found := make(map[uint32]Members, len(ids))
	err := database.InChunks(ids, database.Chunk, func(part []uint32) error {
		rows, err := db.QueryContext(ctx, "SELECT g.id, g.Version, m.userId FROM IMGroup AS g "+
			"LEFT JOIN IMGroupMember AS m ON m.groupId=g.id AND m.status=0 "+
			"WHERE g.status=0 AND g.id IN ("+database.Join(part)+")")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var group uint32
			var user sql.NullInt64
			var m Members
			if err := rows.Scan(&group, &m.Version, &user); err != nil {
				return err
			}
			m.Users = found[group].Users
			if user.Valid {
				m.Users = append(m.Users, uint32(user.Int64))
			}
			found[group] = m
		}
		return rows.Err()
	})
	for g, m := range found {
		slices.Sort(m.Users)
		// a C++ server may have inserted a member twice
		m.Users = slices.Clip(slices.Compact(m.Users))
		found[g] = m
	}
	return found, err
}

// joinTime is the SQL expression for the time of joining. C++ servers do not change
// created when a user joins again.
const joinTime = "GREATEST(created, updated)"

// Joining is where a member begins to see a group. Ids decide it: messages are stored in
// their order, while the clock of a message server gives their times. A member that a C++
// server has added has a time only.
type Joining struct {
	ByID  bool
	After uint32 // with ByID: the group's highest message id at the joining
	At    uint32 // the unix second of joining
}

// JoiningColumns are the columns of a joining. joinMsgId counts only with the time of the
// joining that wrote it: servers that do not know it may have let the user join again.
const JoiningColumns = "joinedAt=" + joinTime + ", joinMsgId, " + joinTime

// fields returns the destinations for JoiningColumns.
func (j *Joining) fields() []any { return []any{&j.ByID, &j.After, &j.At} }

// later reports whether j is to be used instead of k, when a C++ server has inserted a
// member twice.
func (j Joining) later(k Joining) bool { return j.At > k.At }

// Sees reports whether the member may see a message of the group.
func (j Joining) Sees(m *im.Message) bool {
	if j.ByID {
		return m.ID > j.After
	}
	return m.Created >= j.At
}

// Where is Sees as the end of an SQL condition.
func (j Joining) Where() string {
	if j.ByID {
		return fmt.Sprintf(" AND msgId>%d", j.After)
	}
	return fmt.Sprintf(" AND created>=%d", j.At)
}

// JoiningOf returns where a user begins to see a group. ok is false when the user is not a
// member.
func (s *Reader) JoiningOf(ctx context.Context, user, group uint32) (j Joining, ok bool,
	err error) {
	rows, err := s.db.Master.QueryContext(ctx, fmt.Sprintf("SELECT "+JoiningColumns+" "+
		"FROM IMGroupMember WHERE groupId=%d AND userId=%d AND status=0 "+
		"AND EXISTS (SELECT 1 FROM IMGroup WHERE id=%[1]d AND status=0)", group, user))
	if err != nil {
		return Joining{}, false, err
	}
	defer rows.Close()
	for rows.Next() {
		var row Joining
		if err := rows.Scan(row.fields()...); err != nil {
			return Joining{}, false, err
		}
		if !ok || row.later(j) {
			j, ok = row, true
		}
	}
	return j, ok, rows.Err()
}

// JoinedGroup is a group of a user.
type JoinedGroup struct {
	User, Group uint32
	Joining
}

// JoinedGroupsQuery returns the query for the groups of users.
func JoinedGroupsQuery(users []uint32) string {
	return "SELECT userId, groupId, " + JoiningColumns + " FROM IMGroupMember AS m " +
		"WHERE status=0 AND userId IN (" + database.Join(users) + ") " +
		"AND EXISTS (SELECT 1 FROM IMGroup AS g WHERE g.id=m.groupId AND g.status=0)"
}

// JoinedGroups returns the groups of a user, from the master.
func (s *Reader) JoinedGroups(ctx context.Context, user uint32) ([]JoinedGroup, error) {
	list, _, err := s.joinedRows(ctx, JoinedGroupsQuery([]uint32{user}), math.MaxInt32)
	return list, s.db.SQLError("read a user's groups", err)
}

// JoinedAmong returns those of some groups that a user is in, from the master.
func (s *Reader) JoinedAmong(ctx context.Context, user uint32, groups []uint32) ([]JoinedGroup,
	error) {
	var list []JoinedGroup
	err := database.InChunks(groups, database.Chunk, func(part []uint32) error {
		some, _, err := s.joinedRows(ctx, JoinedGroupsQuery([]uint32{user})+
			" AND groupId IN ("+database.Join(part)+")", math.MaxInt32)
		list = append(list, some...)
		return err
	})
	return list, s.db.SQLError("read a user's groups", err)
}

// JoinedParts calls do with users and their groups, in parts: the memory must not grow with
// the number of users that are in many groups. A part has up to database.Chunk users, and fewer
// than most memberships or one user.
func (s *Reader) JoinedParts(ctx context.Context, users []uint32, most int,
	do func(part []uint32, joined []JoinedGroup) error) error {
	return database.InChunks(users, database.Chunk, func(part []uint32) error {
		return s.joinedPart(ctx, part, most, do)
	})
}

// joinedPart is JoinedParts for some users. It halves those that are in too many groups.
func (s *Reader) joinedPart(ctx context.Context, part []uint32, most int,
	do func(part []uint32, joined []JoinedGroup) error) error {
	rows := most
	if len(part) == 1 {
		rows = math.MaxInt32
	}
	joined, all, err := s.joinedRows(ctx, JoinedGroupsQuery(part), rows)
	if err != nil {
		return s.db.SQLError("read users' groups", err)
	}
	if all {
		return do(part, joined)
	}
	half := len(part) / 2
	if err := s.joinedPart(ctx, part[:half], most, do); err != nil {
		return err
	}
	return s.joinedPart(ctx, part[half:], most, do)
}

// joinedRows runs a JoinedGroupsQuery, up to a number of rows. all is false when there may be
// more.
func (s *Reader) joinedRows(ctx context.Context, query string, most int) (list []JoinedGroup,
	all bool, err error) {
	type key struct{ user, group uint32 }
	at := map[key]int{} // index into list
	rows, err := s.db.Master.QueryContext(ctx, fmt.Sprintf("%s LIMIT %d", query, most))
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var j JoinedGroup
		if err := rows.Scan(append([]any{&j.User, &j.Group}, j.fields()...)...); err != nil {
			return nil, false, err
		}
		if i, ok := at[key{j.User, j.Group}]; !ok {
			at[key{j.User, j.Group}] = len(list)
			list = append(list, j)
		} else if j.later(list[i].Joining) {
			list[i] = j
		}
	}
	return list, n < most, rows.Err()
}

// Joinings reads the members of a group with where each begins to see it.
func Joinings(ctx context.Context, db database.Querier, group uint32) (map[uint32]Joining, error) {
	rows, err := db.QueryContext(ctx, fmt.Sprintf("SELECT userId, "+JoiningColumns+" "+
		"FROM IMGroupMember WHERE groupId=%d AND status=0", group))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	joined := map[uint32]Joining{}
	for rows.Next() {
		var user uint32
		var j Joining
		if err := rows.Scan(append([]any{&user}, j.fields()...)...); err != nil {
			return nil, err
		}
		if old, ok := joined[user]; !ok || j.later(old) {
			joined[user] = j
		}
	}
	return joined, rows.Err()
}

// JoinTimes reads the members of a group with their times of joining.
func JoinTimes(ctx context.Context, db database.Querier, group uint32) (map[uint32]uint32, error) {
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
