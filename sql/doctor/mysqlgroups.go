package doctor

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/im"
	"teamtalk/sql/store/redisconn"
)

// memberCounts compares the column userCnt of groups with their members.
func (b *big) memberCounts() Check {
	const members = "(SELECT COUNT(DISTINCT m.userId) FROM IMGroupMember AS m " +
		"WHERE m.groupId=g.id AND m.status=0)"
	return &table{
		about: About{
			Name:     "member-counts",
			Compares: "the number of members in the row of each group with its members",
			Repair:   "the number is set to that of the members",
		},
		db: b.db, subjects: rowIDs("IMGroup"),
		look: "SELECT g.id, g.userCnt, " + members + " AS n FROM IMGroup AS g " +
			"WHERE g.id IN (%s) AND g.status=0 HAVING g.userCnt<>n ORDER BY g.id",
		text: "group %[1]s has %[3]s members, and %[2]s by its row",
		keys: 1,
		mend: func(ctx context.Context, f Finding) error {
			return b.exec(ctx, "UPDATE IMGroup AS g SET userCnt="+members+" WHERE g.id=?",
				number(f.values[0]))
		},
	}
}

// pair is a user and a group, or a user and a peer.
type pair struct{ user, peer uint64 }

// memberLists compares the members of groups with the lists of them in Redis.
type memberLists struct{ *big }

// About describes the check.
func (c *memberLists) About() About {
	return About{
		Name:     "member-lists",
		Compares: "members of groups with the lists in Redis, which C++ servers read",
		Repair:   "the list in Redis is made that of the rows",
	}
}

// Subjects returns groups; see Check.
func (c *memberLists) Subjects(ctx context.Context, after uint64, most int) ([]uint64, error) {
	return subjectRows(ctx, c.db, rowIDs("IMGroup"), after, min(most, 100))
}

// Look compares lists; see Check.
func (c *memberLists) Look(ctx context.Context, subjects []uint64) (found []Finding, err error) {
	rows, err := querySQL(ctx, c.db, "SELECT DISTINCT m.groupId, m.userId FROM IMGroupMember AS m "+
		"JOIN IMGroup AS g ON g.id=m.groupId AND g.status=0 WHERE m.groupId IN ("+join(subjects)+
		") AND m.status=0")
	if err != nil {
		return nil, err
	}
	in := map[uint64]map[string]bool{}
	for _, r := range rows {
		g := number(r[0])
		if in[g] == nil {
			in[g] = map[string]bool{}
		}
		in[g][r[1]] = true
	}
	cmds := make([]*redis.StringSliceCmd, len(subjects))
	// Each command has its own error.
	_, _ = c.redis.GroupMember.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, g := range subjects {
			cmds[i] = p.HKeys(ctx, "group_member_"+strconv.FormatUint(g, 10))
		}
		return nil
	})
	for i, g := range subjects {
		fields, err := cmds[i].Result()
		if err != nil && !redisconn.WrongType(err) {
			return nil, im.WithKind(im.Unavailable, "read the members of a group from Redis", err)
		}
		if len(in[g]) == 0 {
			continue // deleted, or everybody has left
		}
		f := Finding{Subject: g, values: []string{strconv.FormatUint(g, 10)}}
		there := map[string]bool{}
		extra := 0
		for _, user := range fields {
			if there[user] = true; !in[g][user] {
				extra++
				f.values = append(f.values, user)
			}
		}
		missing := 0
		for user := range in[g] {
			if !there[user] {
				missing++
				f.values = append(f.values, user)
			}
		}
		if missing+extra > 0 {
			slices.Sort(f.values[1:])
			f.key = fmt.Sprint(f.values)
			f.Text = fmt.Sprintf("group %d has %d members: Redis lacks %d of them, and lists %d "+
				"other users", g, len(in[g]), missing, extra)
			found = append(found, f)
		}
	}
	return found, nil
}

// Mend writes lists anew; see Check.
func (c *memberLists) Mend(ctx context.Context, found []Finding) error {
	for _, f := range found {
		var users []uint32
		for _, text := range f.values[1:] {
			// Another text is no user. The list is then written anew, since it has too
			// many.
			if n, err := strconv.ParseUint(text, 10, 32); err == nil {
				users = append(users, uint32(n))
			}
		}
		if err := c.store.MirrorMembers(ctx, id(f.values[0]), users); err != nil {
			return err
		}
	}
	return nil
}

// joined reads the members of groups, and fields of their counts in Redis.
func (b *big) joined(ctx context.Context, subjects []uint64, field string) (list []pair,
	values []string, err error) {
	rows, err := querySQL(ctx, b.db, "SELECT DISTINCT m.groupId, m.userId FROM IMGroupMember AS m "+
		"JOIN IMGroup AS g ON g.id=m.groupId AND g.status=0 WHERE m.groupId IN ("+join(subjects)+
		") AND m.status=0 ORDER BY m.groupId, m.userId")
	if err != nil {
		return nil, nil, err
	}
	for _, r := range rows {
		list = append(list, pair{number(r[1]), number(r[0])})
	}
	values, err = pipelined(ctx, b.redis.Unread, list,
		func(p redis.Pipeliner, m pair) *redis.StringCmd {
			return p.HGet(ctx, readKey(m), field)
		})
	return list, values, err
}

// readKey returns the key of the number of messages that a user has read in a group.
func readKey(m pair) string { return fmt.Sprintf("%d_%d_im_user_group", m.user, m.peer) }

// versions compares the versions of groups with those at which their members joined, by
// Redis.
type versions struct{ *big }

// About describes the check.
func (c *versions) About() About {
	return About{
		Name: "group-versions",
		Compares: "the version of each group with those at which its members joined, by Redis: " +
			"after a restore of MySQL alone it may be lower, and counts of new members do not " +
			"begin",
		Repair: "the version is raised above them",
	}
}

// Subjects returns groups; see Check.
func (c *versions) Subjects(ctx context.Context, after uint64, most int) ([]uint64, error) {
	return subjectRows(ctx, c.db, rowIDs("IMGroup"), after, min(most, 100))
}

// Look compares versions; see Check. It reads Redis first: a version only grows.
func (c *versions) Look(ctx context.Context, subjects []uint64) (found []Finding, err error) {
	list, values, err := c.joined(ctx, subjects, "joined")
	if err != nil {
		return nil, err
	}
	newest := map[uint64]uint64{}
	for i, m := range list {
		newest[m.peer] = max(newest[m.peer], uint64(redisconn.CountOf(values[i])))
	}
	rows, err := querySQL(ctx, c.db, "SELECT id, version FROM IMGroup WHERE id IN ("+
		join(subjects)+") AND status=0 ORDER BY id")
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		want := newest[number(r[0])]
		if number(r[1]) >= max(want, 1) {
			continue
		}
		found = append(found, Finding{Subject: number(r[0]),
			values: []string{r[0], strconv.FormatUint(want+1, 10)},
			Text: fmt.Sprintf("group %s has version %s, and a member joined at version %d", r[0],
				r[1], want)})
	}
	return found, nil
}

// Mend raises versions; see Check.
func (c *versions) Mend(ctx context.Context, found []Finding) error {
	for _, f := range found {
		if err := c.exec(ctx, "UPDATE IMGroup SET version=GREATEST(version, ?), "+
			"updated=GREATEST(updated, ?) WHERE id=?", number(f.values[1]), c.store.Now().Unix(),
			number(f.values[0])); err != nil {
			return err
		}
	}
	return nil
}
