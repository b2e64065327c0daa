package doctor

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"teamtalk/sql/schema"
	"teamtalk/sql/store/redisconn"
)

// groupUnread compares the unread counts of members of groups with the messages in the
// groups.
type groupUnread struct {
	*big
	span
}

// About describes the check.
func (c *groupUnread) About() About {
	return About{
		Name: "group-unread",
		Compares: "unread counts of members in Redis with the messages of their groups after the " +
			"joining and the read mark",
		Repair: "counts that are too low are made again, as by teamtalk unread rebuild; counts " +
			"that are too high are lowered, unless they change meanwhile",
	}
}

// Subjects returns groups; see Check.
func (c *groupUnread) Subjects(ctx context.Context, after uint64, most int) ([]uint64, error) {
	return subjectRows(ctx, c.db, rowIDs("IMGroup"), after, min(most, 50))
}

// Note says what was not compared.
func (c *groupUnread) Note() string { return (&unread{big: c.big}).Note() }

// member is a member of a group with its counts.
type member struct {
	pair
	value  string // of the messages read; "" without one
	unread int64  // negative: it has read more than were sent
	byID   bool   // after counts
	after  uint64 // the last message before the joining
	at     uint64 // time of joining
	mark   uint64
	marked bool
}

// Look compares counts; see Check. It reads where members begin and what they have read,
// then the counts of members, those of the groups, and the messages: each only grows.
func (c *groupUnread) Look(ctx context.Context, subjects []uint64) (found []Finding, err error) {
	if c.span, err = c.spanNow(ctx); err != nil {
		return nil, err
	}
	positions, err := c.positions(ctx, subjects)
	if err != nil {
		return nil, err
	}
	list, values, err := c.joined(ctx, subjects, "count")
	if err != nil {
		return nil, err
	}
	sent, err := c.sent(ctx, subjects)
	if err != nil {
		return nil, err
	}
	of := map[uint64][]*member{}
	for i, k := range list {
		m := positions[k]
		if values[i] == "" || m == nil {
			continue // the count begins with the next look of the user, from the messages
		}
		m.value, m.unread = values[i], sent[k.peer]-redisconn.CountOf(values[i])
		of[k.peer] = append(of[k.peer], m)
	}
	for _, g := range subjects {
		if len(of[g]) == 0 {
			continue
		}
		some, err := c.group(ctx, g, sent[g], of[g])
		if err != nil {
			return nil, err
		}
		found = append(found, some...)
	}
	return found, nil
}

// sent reads the numbers of messages of groups from Redis.
func (c *groupUnread) sent(ctx context.Context, list []uint64) (map[uint64]int64, error) {
	texts, err := pipelined(ctx, c.redis.Unread, list,
		func(p redis.Pipeliner, g uint64) *redis.StringCmd {
			return p.HGet(ctx, strconv.FormatUint(g, 10)+"_im_group_msg", "count")
		})
	if err != nil {
		return nil, err
	}
	counts := make(map[uint64]int64, len(list))
	for i, g := range list {
		counts[g] = redisconn.CountOf(texts[i])
	}
	return counts, nil
}

// group compares the counts of a group.
func (c *groupUnread) group(ctx context.Context, group uint64, sent int64,
	list []*member) (found []Finding, err error) {
	rows, err := querySQL(ctx, c.db, fmt.Sprintf("SELECT msgId, userId, created, status "+
		"FROM IMGroupMessage_%d WHERE groupId=%d ORDER BY msgId DESC LIMIT %d",
		group%schema.Tables, group, mostCounted))
	if err != nil {
		return nil, err
	}
	finding := func(m *member, set, text string) {
		found = append(found, Finding{Subject: group, key: fmt.Sprint(m.user, m.unread < 0),
			values: []string{fmt.Sprint(m.user), fmt.Sprint(group), m.value, set}, Text: text})
	}
	var many []*member
	for _, m := range list {
		least, most := c.bounds(m, rows)
		switch {
		case m.unread < 0:
			set := strconv.FormatInt(sent, 10) // as a store does that notices
			if c.finalized && least > 0 {
				set = ""
			}
			finding(m, set, fmt.Sprintf("user %d has read %s messages "+
				"of group %d, where %d were sent", m.user, m.value, group, sent))
		case c.finalized && m.unread < least:
			finding(m, "", fmt.Sprintf("user %d has %d unread messages in group %d: at least %d "+
				"follow the read mark", m.user, m.unread, group, least))
		case m.byID && m.unread > most:
			many = append(many, m)
		}
	}
	for part := range slices.Chunk(many, 100) {
		counted, err := c.visible(ctx, group, part)
		if err != nil {
			return nil, err
		}
		for i, m := range part {
			if m.unread > counted[i] {
				finding(m, strconv.FormatInt(sent-counted[i], 10), fmt.Sprintf("user %d has %d "+
					"unread messages in group %d: at most %d can be", m.user, m.unread, group,
					counted[i]))
			}
		}
	}
	return found, nil
}

// positions reads where members begin to see their groups, and their read marks.
func (c *groupUnread) positions(ctx context.Context, subjects []uint64) (map[pair]*member, error) {
	by := map[pair]*member{}
	in := "groupId IN (" + join(subjects) + ") AND status=0"
	rows, err := querySQL(ctx, c.db, "SELECT userId, groupId, joinedAt=GREATEST(created, "+
		"updated), joinMsgId, GREATEST(created, updated) FROM IMGroupMember WHERE "+in)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		k := pair{number(r[0]), number(r[1])}
		// A C++ server may have inserted a member twice.
		if old := by[k]; old == nil || number(r[4]) >= old.at {
			by[k] = &member{pair: k, byID: r[2] == "1", after: number(r[3]), at: number(r[4])}
		}
	}
	rows, err = querySQL(ctx, c.db, "SELECT k.userId, k.peerId, k.msgId FROM IMGroupMember AS m "+
		"JOIN IMReadMark AS k ON k.userId=m.userId AND k.peerId=m.groupId AND k.type=2 WHERE "+in)
	for _, r := range rows {
		if m := by[pair{number(r[0]), number(r[1])}]; m != nil {
			m.mark, m.marked = number(r[2]), true
		}
	}
	return by, err
}

// bounds returns how many of the last messages must be unread, and how many the member
// sees. A member that has sent one after its mark has read up to a place that is not
// known: messages that were stored at the same moment were counted before or after it.
func (c *groupUnread) bounds(m *member, rows [][]string) (least, most int64) {
	sent := false
	for _, r := range rows {
		msg, from, created := number(r[0]), number(r[1]), number(r[2])
		sees := created >= m.at
		if m.byID {
			sees = msg > m.after
		}
		if !sees {
			continue
		}
		if most++; r[3] != "0" || msg <= m.mark {
			continue
		}
		sent = sent || from == m.user
		marked := m.marked || c.since > 0 && created >= c.since
		if marked && created >= m.at && created <= c.until {
			least++
		}
	}
	if sent {
		least = 0
	}
	return least, most
}

// visible counts the messages that members see, up to one more than they have as unread.
func (c *groupUnread) visible(ctx context.Context, group uint64, list []*member) ([]int64, error) {
	queries := make([]string, len(list))
	for i, m := range list {
		queries[i] = fmt.Sprintf("(SELECT %d, COUNT(*) FROM (SELECT 1 FROM IMGroupMessage_%d "+
			"WHERE groupId=%d AND msgId>%d LIMIT %d) AS m)", i, group%schema.Tables, group, m.after,
			m.unread+1)
	}
	rows, err := querySQL(ctx, c.db, strings.Join(queries, " UNION ALL "))
	counted := make([]int64, len(list))
	for _, r := range rows {
		counted[number(r[0])] = int64(number(r[1]))
	}
	return counted, err
}

// Mend makes counts again, and lowers those that are too high; see Check. A count is
// lowered only if no message was counted while the messages were: otherwise it is left to
// the next run.
func (c *groupUnread) Mend(ctx context.Context, found []Finding) error {
	groups := subjectsOf(found)
	before, err := c.sent(ctx, groups)
	if err != nil {
		return err
	}
	now, err := c.Look(ctx, groups)
	if err != nil {
		return err
	}
	after, err := c.sent(ctx, groups)
	if err != nil {
		return err
	}
	now = slices.DeleteFunc(now, func(f Finding) bool {
		changed := before[f.Subject] != after[f.Subject]
		return !slices.ContainsFunc(found, f.same) || changed && f.values[3] != ""
	})
	return c.recount(ctx, now, func(v []string) (string, string) {
		return readKey(pair{number(v[0]), number(v[1])}), "count"
	})
}
