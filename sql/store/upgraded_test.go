package store

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/schema"
)

// cppMember changes a member as a C++ server does: the row, then the version of the group,
// without a transaction, and without the columns of migration 9.
func (e *env) cppMember(t *testing.T, group, user uint32, in bool) {
	t.Helper()
	run := func(stmt string) {
		if _, err := e.db.Exec(stmt); err != nil {
			t.Errorf("%s: %v", stmt, err) // on any goroutine
		}
	}
	if in {
		run(fmt.Sprintf("INSERT INTO IMGroupMember (groupId, userId, status, created, "+
			"updated) SELECT %d, %d, 0, 1500000000, 1500000000 FROM DUAL WHERE NOT EXISTS "+
			"(SELECT 1 FROM IMGroupMember WHERE groupId=%[1]d AND userId=%[2]d)", group, user))
	}
	run(fmt.Sprintf("UPDATE IMGroupMember SET status=%d, updated=1500000000 "+
		"WHERE groupId=%d AND userId=%d", map[bool]int{true: 0, false: 1}[in], group, user))
	run(fmt.Sprintf("UPDATE IMGroup SET version=version+1 WHERE id=%d", group))
}

// beforeJoins makes four users, and the group 7 of the first two as before migration 9.
func (e *env) beforeJoins(t *testing.T) {
	t.Helper()
	before := e.open(t)
	if ids := fmt.Sprint(users(t, before, 4)); ids != "[1 2 3 4]" {
		t.Fatal(ids)
	}
	before.Close()
	e.exec(t, "ALTER TABLE IMGroupMember DROP COLUMN joinMsgId, DROP COLUMN joinedAt")
	e.exec(t, "DELETE FROM schema_migrations WHERE version = 9")
	e.exec(t, "INSERT INTO IMGroup (id, name, avatar, creator, type, userCnt, status, version, "+
		"lastChated, updated, created) VALUES (7, 'old', '', 1, 2, 2, 0, 5, 0, 1, 1)")
	e.cppMember(t, 7, 1, true)
	e.cppMember(t, 7, 2, true)
}

// wantMembers checks the members of group 7, its version, and that each of them sees the
// message "last".
func (e *env) wantMembers(t *testing.T, s *Store, want string) {
	t.Helper()
	list, err := s.Groups(t.Context(), []uint32{7})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	rows := e.names(t, "SELECT userId FROM IMGroupMember WHERE groupId=7 AND status=0 "+
		"ORDER BY userId")
	if got := fmt.Sprint(slices.Sorted(slices.Values(list[0].Members))); got != want ||
		fmt.Sprint(rows) != want {
		t.Errorf("members %s, rows %v, want %s", got, rows, want)
	}
	if v := uint32(e.number(t, "SELECT version FROM IMGroup WHERE id=7")); list[0].Version != v {
		t.Errorf("version %d, in the table %d", list[0].Version, v)
	}
	for user := uint32(1); user <= 4; user++ {
		if n := groupUnread(t, s, user, 7); user < 3 && n == 0 {
			t.Errorf("user %d has %d unread messages", user, n)
		}
		history, err := s.GroupHistory(t.Context(), user, 7, 0, 100)
		if err != nil || len(history) == 0 || string(history[0].Data) != "last" {
			t.Errorf("user %d sees %d messages, the newest %v, %v", user, len(history),
				history[:min(1, len(history))], err)
		}
	}
}

// TestMembersFromBeforeAnUpgrade: members that were written before migration 9, during it,
// and after it by a C++ server at the same time as by this one, count alike. Each message is
// checked against the members of the version that it names.
func TestMembersFromBeforeAnUpgrade(t *testing.T) {
	const rounds = 20
	e := newEnv(t)
	e.beforeJoins(t)

	// A C++ server adds and removes user 3 all the time, and leaves it in the group.
	var traffic sync.WaitGroup
	half, migrated := make(chan struct{}), make(chan struct{})
	traffic.Go(func() {
		for i := range rounds {
			if i == rounds/4 {
				close(half)
			}
			if i == rounds/2 {
				<-migrated
			}
			e.cppMember(t, 7, 3, i%2 == 0)
		}
		e.cppMember(t, 7, 3, true)
	})
	<-half
	if err := schema.Migrate(t.Context(), e.db, schema.Options{}); err != nil {
		t.Fatal(err)
	}
	s := e.store(t)
	close(migrated)
	refused := 0
	for i := range rounds {
		how := []pb.GroupModifyType{add, del}[i%2]
		if _, err := s.ChangeMembers(t.Context(), im.MemberEdit{Group: 7, Type: how,
			Users: []uint32{4}}); err != nil {
			t.Fatal(err)
		}
		m := groupText(4, 7, fmt.Sprint(i)) // a member in every second round
		s.AppendMessages(t.Context(), []*im.Message{m})
		if (m.Err == nil) != (how == add) {
			t.Fatalf("round %d: the message of user 4 has error %v", i, m.Err)
		}
		m = groupText(3, 7, fmt.Sprint(i))
		if s.AppendMessages(t.Context(), []*im.Message{m}); m.Err != nil {
			refused++
		}
	}
	traffic.Wait()
	t.Logf("%d of %d messages of user 3 were refused", refused, rounds)

	change(t, s, 7, add, 4)
	s.AppendMessages(t.Context(), []*im.Message{groupText(3, 7, "last")})
	e.wantMembers(t, s, "[1 2 3 4]")
}

// TestConsentBesideCpp: a C++ server adds a user that left, and removes it. It writes neither
// column of ours, and what it leaves in them does not count.
func TestConsentBesideCpp(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 2)
	g, err := s.CreateGroup(t.Context(), im.Group{Name: "g", Creator: u[0],
		Type: pb.GroupType_GROUP_TYPE_TMP, Members: u}, u[0])
	if err != nil {
		t.Fatal(err)
	}
	want := func(what string, left, given bool) {
		t.Helper()
		l, err := s.LeftGroup(t.Context(), g.ID, u[1:], 1)
		if err != nil || (len(l) == 1) != left {
			t.Errorf("%s: left %v, %v; want %v", what, l, err, left)
		}
		n, err := s.GivenMemberships(t.Context(), u[1:], u[0], 1)
		if err != nil || (len(n) == 1) != given {
			t.Errorf("%s: given %v, %v; want %v", what, n, err, given)
		}
	}
	change := func(how pb.GroupModifyType, by uint32) {
		t.Helper()
		if _, err := s.ChangeMembers(t.Context(), im.MemberEdit{Group: g.ID, Type: how,
			Users: u[1:], By: by}); err != nil {
			t.Fatal(err)
		}
	}
	want("added by a member", false, true)
	// The C++ server's INSERT and UPDATE name their columns, so the clock is all that
	// differs: its times are those of this second or later.
	e.exec(t, "UPDATE IMGroupMember SET updated=updated+5 WHERE userId="+fmt.Sprint(u[1]))
	want("added again by C++", false, false)
	change(del, u[1])
	want("left", true, false)
	e.exec(t, "UPDATE IMGroupMember SET status=0, updated=updated+5 WHERE userId="+
		fmt.Sprint(u[1]))
	want("added by C++ nevertheless", false, false)
	e.exec(t, "UPDATE IMGroupMember SET status=1 WHERE userId="+fmt.Sprint(u[1]))
	want("removed by C++", false, false)
	change(add, u[0])
	want("added by a member again", false, true)
	change(del, u[0])
	e.exec(t, "UPDATE IMGroupMember SET status=0, updated=updated+5, joinedAt=updated "+
		"WHERE userId="+fmt.Sprint(u[1]))
	want("added by a server of ours that does not know the column", false, false)
}
