package doctor

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"

	"teamtalk/sql/schema"
	"teamtalk/sql/store/redisconn"
)

// relations compares the rows of pairs of users with users, and with each other.
func (b *big) relations() Check {
	return &table{
		about: About{
			Name:     "relations",
			Compares: "conversations with their two users, and with each other",
		},
		db: b.db, subjects: rowIDs("IMRelationShip"),
		look: "SELECT r.id, r.smallId, r.bigId, IF(s.id IS NULL, 'the first user does not " +
			"exist', IF(g.id IS NULL, 'the second user does not exist', IF(r.smallId>=r.bigId, " +
			"'the lower id must be first', 'an older row has the same pair: run teamtalk migrate " +
			"finalize'))) FROM IMRelationShip AS r LEFT JOIN IMUser AS s ON s.id=r.smallId " +
			"LEFT JOIN IMUser AS g ON g.id=r.bigId WHERE r.id IN (%s) AND (s.id IS NULL OR " +
			"g.id IS NULL OR r.smallId>=r.bigId OR EXISTS (SELECT 1 FROM IMRelationShip AS o " +
			"WHERE o.smallId=r.smallId AND o.bigId=r.bigId AND o.id<r.id)) ORDER BY r.id",
		text: "conversation %[1]s of the users %[2]s and %[3]s: %[4]s",
	}
}

// threads looks for messages of conversations without a row.
type threads struct{ *big }

// About describes the check.
func (c *threads) About() About {
	return About{
		Name:     "messages",
		Compares: "messages between users with the rows of their conversations",
		Repair: "a lost row is made again, if its messages are of one pair of users without " +
			"another",
	}
}

// Subjects returns conversations with messages; see Check.
func (c *threads) Subjects(ctx context.Context, after uint64, most int) (all []uint64, err error) {
	for n := range schema.Tables {
		ids, err := subjectRows(ctx, c.db, fmt.Sprintf("SELECT DISTINCT relateId "+
			"FROM IMMessage_%d WHERE relateId>? ORDER BY relateId LIMIT ?", n), after, most)
		if err != nil {
			return nil, err
		}
		all = append(all, ids...)
	}
	slices.Sort(all)
	return all[:min(len(all), most)], nil
}

// Look looks for rows; see Check.
func (c *threads) Look(ctx context.Context, subjects []uint64) (found []Finding, err error) {
	rows, err := querySQL(ctx, c.db, "SELECT id FROM IMRelationShip WHERE id IN ("+
		join(subjects)+")")
	if err != nil {
		return nil, err
	}
	there := map[uint64]bool{}
	for _, r := range rows {
		there[number(r[0])] = true
	}
	lost := slices.DeleteFunc(slices.Clone(subjects), func(id uint64) bool { return there[id] })
	rows, err = c.perTable(ctx, single, "SELECT relateId, COUNT(*), "+
		"MIN(LEAST(fromId, toId)), MAX(LEAST(fromId, toId)), MIN(GREATEST(fromId, toId)), "+
		"MAX(GREATEST(fromId, toId)), MIN(created), MAX(created) FROM %s WHERE relateId IN (%s) "+
		"AND fromId>0 GROUP BY relateId", lost)
	for _, r := range rows {
		pair := "of several pairs of users"
		if r[2] == r[3] && r[4] == r[5] {
			pair = fmt.Sprintf("of the users %s and %s", r[2], r[4])
		}
		found = append(found, Finding{Subject: number(r[0]), values: r, Text: fmt.Sprintf(
			"conversation %s has %s messages %s and no row: no user sees them", r[0], r[1], pair)})
	}
	slices.SortFunc(found, bySubject)
	return found, err
}

// Mend makes rows again; see Check.
func (c *threads) Mend(ctx context.Context, found []Finding) error {
	return c.store.WhileCreating(ctx, func(tx *sql.Tx) error {
		for _, f := range found {
			v := f.values
			if v[2] != v[3] || v[4] != v[5] || v[2] == v[4] {
				continue
			}
			if _, err := tx.ExecContext(ctx, "INSERT INTO IMRelationShip "+
				"(id, smallId, bigId, status, created, updated) SELECT ?, ?, ?, 0, ?, ? "+
				"FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM IMRelationShip WHERE id=? OR "+
				"smallId=? AND bigId=?)", v[0], v[2], v[4], v[6], v[7], v[0], v[2],
				v[4]); err != nil {
				return err
			}
		}
		return nil
	})
}

// sessions looks for entries in users' lists without what they are about.
func (b *big) sessions() Check {
	const wrong = "s.status=0 AND (s.type=1 AND (r.id IS NULL OR u.id IS NULL OR p.id IS NULL) " +
		"OR s.type=2 AND (g.id IS NULL OR m.id IS NULL))"
	const from = "IMRecentSession AS s LEFT JOIN IMUser AS u ON u.id=s.userId " +
		"LEFT JOIN IMUser AS p ON s.type=1 AND p.id=s.peerId " +
		"LEFT JOIN IMRelationShip AS r ON s.type=1 AND r.smallId=LEAST(s.userId, s.peerId) " +
		"AND r.bigId=GREATEST(s.userId, s.peerId) " +
		"LEFT JOIN IMGroup AS g ON s.type=2 AND g.id=s.peerId AND g.status=0 " +
		"LEFT JOIN IMGroupMember AS m ON s.type=2 AND m.groupId=s.peerId AND m.userId=s.userId " +
		"AND m.status=0"
	return &table{
		about: About{
			Name: "sessions",
			Compares: "entries in users' lists of conversations with users, conversations, " +
				"groups and members",
			Repair: "the entry is removed from the list, as by its user: the next message brings " +
				"it back",
		},
		db: b.db, subjects: rowIDs("IMRecentSession"),
		look: "SELECT DISTINCT s.id, s.userId, s.peerId, IF(s.type=2, IF(g.id IS NULL, " +
			"'group, which does not exist', 'group, and the user is no member'), " +
			"IF(p.id IS NULL OR u.id IS NULL, 'user: one of them does not exist', " +
			"'user, without a conversation')) FROM " + from + " WHERE s.id IN (%s) AND " + wrong +
			" ORDER BY s.id",
		text: "entry %[1]s in the list of user %[2]s is about %[3]s, a %[4]s",
		mend: func(ctx context.Context, f Finding) error {
			return b.exec(ctx, "UPDATE "+from+" SET s.status=1 WHERE s.id=? AND "+wrong,
				number(f.values[0]))
		},
	}
}

// missingSessions looks for conversations that are missing in a user's list.
type missingSessions struct{ *big }

// About describes the check.
func (c *missingSessions) About() About {
	return About{
		Name:     "missing-sessions",
		Compares: "conversations that have messages with the lists of both users",
		Repair:   "the entry is made, with the time of the last message",
	}
}

// Subjects returns conversations; see Check.
func (c *missingSessions) Subjects(ctx context.Context, after uint64, most int) ([]uint64, error) {
	return subjectRows(ctx, c.db, rowIDs("IMRelationShip"), after, most)
}

// Look looks for entries; see Check. An entry that its user has removed has status 1.
func (c *missingSessions) Look(ctx context.Context, subjects []uint64) (found []Finding,
	err error) {
	const side = "SELECT r.id, %[2]s, %[3]s FROM IMRelationShip AS r " +
		"JOIN IMUser AS u ON u.id=r.smallId JOIN IMUser AS p ON p.id=r.bigId " +
		"LEFT JOIN IMRecentSession AS s ON s.userId=%[2]s AND s.peerId=%[3]s AND s.type=1 " +
		"WHERE r.id IN (%[1]s) AND COALESCE(r.status, 0)=0 AND s.id IS NULL"
	in := join(subjects)
	rows, err := querySQL(ctx, c.db, fmt.Sprintf(side, in, "r.smallId", "r.bigId")+" UNION ALL "+
		fmt.Sprintf(side, in, "r.bigId", "r.smallId")+" ORDER BY 1, 2")
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	var lacking []uint64
	for _, r := range rows {
		lacking = append(lacking, number(r[0]))
	}
	times, err := c.perTable(ctx, single, "SELECT relateId, MIN(created), MAX(created) FROM %s "+
		"WHERE relateId IN (%s) AND status=0 GROUP BY relateId", slices.Compact(lacking))
	if err != nil {
		return nil, err
	}
	of := map[string][]string{}
	for _, r := range times {
		of[r[0]] = r
	}
	for _, r := range rows {
		t := of[r[0]]
		if t == nil {
			continue // without a message yet
		}
		found = append(found, Finding{Subject: number(r[0]), key: r[1],
			values: []string{r[0], r[1], r[2], "1", t[1], t[2]},
			Text: fmt.Sprintf("conversation %s is missing in the list of user %s, with user %s",
				r[0], r[1], r[2])})
	}
	return found, nil
}

// Mend makes entries; see Check.
func (c *missingSessions) Mend(ctx context.Context, found []Finding) error {
	return c.list(ctx, found)
}

// list makes entries in users' lists. The values of a finding are the subject, the user,
// the peer, the type, and the times of the first and the last message.
func (b *big) list(ctx context.Context, found []Finding) error {
	return b.store.WhileCreating(ctx, func(tx *sql.Tx) error {
		for _, f := range found {
			v := f.values
			if _, err := tx.ExecContext(ctx, "INSERT INTO IMRecentSession "+
				"(userId, peerId, type, status, created, updated) SELECT ?, ?, ?, 0, ?, ? "+
				"FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM IMRecentSession WHERE userId=? AND "+
				"peerId=? AND type=?)", v[1], v[2], v[3], v[4], v[5], v[1], v[2],
				v[3]); err != nil {
				return err
			}
		}
		return nil
	})
}

// missingGroupSessions looks for groups that are missing in a member's list.
type missingGroupSessions struct{ *big }

// About describes the check.
func (c *missingGroupSessions) About() About {
	return About{
		Name: "missing-group-sessions",
		Compares: "groups with the lists of the members that see a message, up to the time to " +
			"which db_proxies have written the lists",
		Repair: "the entry is made, with the time of the last message",
	}
}

// Subjects returns groups; see Check.
func (c *missingGroupSessions) Subjects(ctx context.Context, after uint64, most int) ([]uint64,
	error) {
	return subjectRows(ctx, c.db, rowIDs("IMGroup"), after, most)
}

// syncMargin is the longest time, in seconds, by which the last message of a group may be
// committed after its time.
const syncMargin = 60

// Look looks for entries; see Check.
func (c *missingGroupSessions) Look(ctx context.Context, subjects []uint64) (found []Finding,
	err error) {
	mark, err := c.redis.Sync.Get(ctx, "last_update_group").Result()
	until := redisconn.CountOf(mark) - syncMargin
	if err != nil || until <= 0 {
		return nil, nil // no db_proxy has written lists since Redis has its data
	}
	last, err := c.perTable(ctx, groups, "SELECT groupId, MAX(msgId), MIN(created), MAX(created) "+
		"FROM %s WHERE groupId IN (%s) AND status=0 GROUP BY groupId", subjects)
	if err != nil || len(last) == 0 {
		return nil, err
	}
	of := map[string][]string{}
	for _, r := range last {
		of[r[0]] = r
	}
	rows, err := querySQL(ctx, c.db, "SELECT m.groupId, m.userId, "+
		"MAX(IF(m.joinedAt=GREATEST(m.created, m.updated), m.joinMsgId, -1)), "+
		"MAX(GREATEST(m.created, m.updated)) FROM IMGroupMember AS m "+
		"JOIN IMGroup AS g ON g.id=m.groupId AND g.status=0 AND g.lastChated<"+
		strconv.FormatInt(until, 10)+" JOIN IMUser AS u ON u.id=m.userId "+
		"LEFT JOIN IMRecentSession AS s ON s.userId=m.userId AND s.peerId=m.groupId AND s.type=2 "+
		"WHERE m.groupId IN ("+join(subjects)+") AND m.status=0 AND s.id IS NULL "+
		"GROUP BY m.groupId, m.userId ORDER BY m.groupId, m.userId")
	for _, r := range rows {
		t := of[r[0]]
		sees := t != nil && (r[2] == "-1" && number(t[3]) >= number(r[3]) ||
			r[2] != "-1" && number(t[1]) > number(r[2]))
		if !sees {
			continue
		}
		found = append(found, Finding{Subject: number(r[0]), key: r[1],
			values: []string{r[0], r[1], r[0], "2", t[2], t[3]},
			Text:   fmt.Sprintf("group %s is missing in the list of its member %s", r[0], r[1])})
	}
	return found, err
}

// Mend makes entries; see Check.
func (c *missingGroupSessions) Mend(ctx context.Context, found []Finding) error {
	return c.list(ctx, found)
}

// soundMessages looks for audio messages without their sound's row.
type soundMessages struct {
	*big
	group bool
}

// About describes the check.
func (c *soundMessages) About() About {
	if c.group {
		return About{Name: "group-sound-messages",
			Compares: "audio messages of each group with the rows of sounds"}
	}
	return About{Name: "sound-messages",
		Compares: "audio messages of each conversation with the rows of sounds"}
}

// Subjects returns conversations or groups; see Check.
func (c *soundMessages) Subjects(ctx context.Context, after uint64, most int) ([]uint64, error) {
	return (&ids{c.big, c.group}).Subjects(ctx, after, min(most, 100))
}

// Look looks for rows of sounds; see Check.
func (c *soundMessages) Look(ctx context.Context, subjects []uint64) (found []Finding, err error) {
	table, column, kind, what := single, "relateId", "2", "conversation"
	if c.group {
		table, column, kind, what = groups, "groupId", "18", "group"
	}
	rows, err := c.perTable(ctx, table, "SELECT m."+column+", m.msgId FROM %s AS m "+
		"LEFT JOIN IMAudio AS a ON a.id=CAST(m.content AS UNSIGNED) WHERE m."+column+
		" IN (%s) AND m.type="+kind+" AND m.status=0 AND a.id IS NULL", subjects)
	for _, r := range rows {
		found = append(found, Finding{Subject: number(r[0]), key: r[1], values: r,
			Text: fmt.Sprintf("message %s of %s %s is a sound without a row: it is listed without "+
				"a sound", r[1], what, r[0])})
	}
	return found, err
}

// Mend does nothing: the place of the sound is not known.
func (c *soundMessages) Mend(context.Context, []Finding) error { return nil }
