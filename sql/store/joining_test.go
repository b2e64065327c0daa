package store

import (
	"fmt"
	"testing"

	"teamtalk/core/im"
	"teamtalk/sql/store/history"
	"teamtalk/sql/store/members"
)

// wantVisible checks the ids of the messages of a group that a user sees, newest first.
func wantVisible(t *testing.T, what string, s *Store, user, group uint32, want ...uint32) {
	t.Helper()
	list, err := s.GroupHistory(t.Context(), user, group, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []uint32
	for _, m := range list {
		got = append(got, m.ID)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: sees the messages %v, want %v", what, got, want)
	}
}

// TestJoinedThroughOtherServers: a server that does not know joinMsgId lets a member join
// again. The id of the earlier joining must not show the messages of its absence.
func TestJoinedThroughOtherServers(t *testing.T) {
	for name, rejoin := range map[string]string{
		"C++":                "UPDATE IMGroupMember SET status=0, updated=%d",
		"the version before": "UPDATE IMGroupMember SET status=0, created=%d, updated=%[1]d",
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			second := e.freeze()
			s := e.store(t)
			u := users(t, s, 2)
			g := newGroup(t, s, u...)
			now := uint32(second.Load())
			post := func(created uint32) {
				m := groupText(u[0], g, "x")
				m.Created = created
				send(t, s, m)
			}
			post(now - 3600) // the clock of its message server is behind
			wantVisible(t, "joined through this server", s, u[1], g, 1)
			where := fmt.Sprintf(" WHERE groupId=%d AND userId=%d", g, u[1])
			e.exec(t, "UPDATE IMGroupMember SET status=1"+where)
			post(now + 1)
			e.exec(t, fmt.Sprintf(rejoin, now+10)+where)
			second.Add(10)
			post(now + 10)
			wantVisible(t, "joined again", s, u[1], g, 3)
			if syncAll(t, s); len(listed(t, s, g, u)) != 2 {
				t.Errorf("only users %v have the session", listed(t, s, g, u))
			}
			change(t, s, g, del, u[1])
			change(t, s, g, add, u[1])
			post(now - 3600)
			wantVisible(t, "joined through this server again", s, u[1], g, 4)
			// A C++ server may insert a member twice.
			e.exec(t, fmt.Sprintf("INSERT INTO IMGroupMember (groupId, userId, status, created, "+
				"updated) VALUES (%d, %d, 0, %d, %[3]d)", g, u[1], now-100))
			wantVisible(t, "twice", s, u[1], g, 4)
		})
	}
}

// TestLostCountFollowsIDs restores a member's lost count of read messages. Messages since
// joining are unread, although the clock of their message server is behind.
func TestLostCountFollowsIDs(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 2)
	g := newGroup(t, s, u[0])
	send(t, s, groupTexts(u[0], g, 3)...)
	change(t, s, g, add, u[1])
	batch := groupTexts(u[0], g, 2)
	for _, m := range batch {
		m.Created -= 3600
	}
	send(t, s, batch...)
	e.redis.Do(fmt.Sprintf("DEL %d_%d_im_user_group", u[1], g))
	wantGroupUnread(t, "lost", s, g, u, 0, 2)
	if totals, err := s.UnreadTotals(t.Context(), u); err != nil || totals[u[1]] != 2 {
		t.Errorf("totals %v, %v", totals, err)
	}
}

// TestJoiningQueriesUseIndexes requires that the messages after a joining are read by
// their ids.
func TestJoiningQueriesUseIndexes(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 40)
	var batch []*im.Message
	var g uint32
	for range 30 {
		g = newGroup(t, s, u...)
		batch = append(batch, groupTexts(u[0], g, 100)...)
	}
	send(t, s, batch...)
	for _, table := range []string{"IMGroup", "IMGroupMember", of(g).Table()} {
		e.exec(t, "ANALYZE TABLE "+table)
	}
	j := members.Joining{ByID: true, After: 50}
	for query, keys := range map[string]string{
		fmt.Sprintf("SELECT content FROM %s WHERE groupId=%d AND status=0"+history.NewestFirst,
			of(g).Table(), g, j.Where(), 0, 20): "groupId_msgId",
		fmt.Sprintf("SELECT 1 FROM %s WHERE groupId=%d AND status=0%s LIMIT 1000",
			of(g).Table(), g, j.Where()): "groupId_msgId",
		fmt.Sprintf(
			"SELECT "+members.JoiningColumns+" FROM IMGroupMember WHERE groupId=%d AND userId=%d "+
				"AND status=0", g, u[0]): "idx_groupId_userId_status",
		members.JoinedGroupsQuery(u[:2]): "",
	} {
		wantIndex(t, e, query, keys)
	}
}
