package store

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/store/database"
)

const (
	add = pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	del = pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL
)

// groupText returns a text message to a group.
func groupText(from, group uint32, body string) *im.Message {
	m := text(from, group, body)
	m.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
	return m
}

// groupTexts returns n messages to a group.
func groupTexts(from, group uint32, n int) []*im.Message {
	list := make([]*im.Message, n)
	for i := range list {
		list[i] = groupText(from, group, fmt.Sprintf("%d #%d", from, i))
	}
	return list
}

// newGroup creates a group.
func newGroup(t testing.TB, s *Store, members ...uint32) uint32 {
	t.Helper()
	g, err := s.CreateGroup(context.Background(), im.Group{Name: "group", Creator: members[0],
		Type: pb.GroupType_GROUP_TYPE_TMP, Members: members}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return g.ID
}

// change changes members, which must succeed.
func change(t testing.TB, s *Store, group uint32, how pb.GroupModifyType,

	users ...uint32) im.MemberChange {

	t.Helper()

	c, err := s.ChangeMembers(context.Background(), im.MemberEdit{Group: group, Type: how,
		Users: users})

	if err != nil {

		t.Fatal(err)

	}

	return c

}

// groupUnread returns the unread count of a group.
func groupUnread(t testing.TB, s *Store, user, group uint32) uint32 {
	t.Helper()
	list, _, err := s.UnreadCounts(context.Background(), user, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range list {
		if u.Peer == group && u.Type == pb.SessionType_SESSION_TYPE_GROUP {
			return u.Count
		}
	}
	return 0
}

// wantGroupUnread checks the unread counts of users.
func wantGroupUnread(t testing.TB, what string, s *Store, group uint32, users []uint32,

	want ...uint32) {

	t.Helper()

	for i, n := range want {

		if got := groupUnread(t, s, users[i], group); got != n {

			t.Errorf("%s: user %d has %d unread, want %d", what, i, got, n)

		}

	}

}

// number returns a single number from the database.
func (e *env) number(t testing.TB, query string) (n int) {
	t.Helper()
	if err := e.db.QueryRow(query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// TestGroupAsCPPServersSeeIt checks the contents of Redis and MySQL that C++ servers read
// directly.
func TestGroupAsCPPServersSeeIt(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 4)
	g := newGroup(t, s, u[:3]...)
	e.wantMirror(t, "new", g)
	send(t, s, groupTexts(u[0], g, 2)...)
	send(t, s, groupTexts(u[1], g, 1)...)
	change(t, s, g, add, u[3])
	change(t, s, g, del, u[0])
	e.wantMirror(t, "changed", g)
	for command, want := range map[string]string{
		fmt.Sprintf("GET group_msg_id_%d", g):                  "3",
		fmt.Sprintf("HGET %d_im_group_msg count", g):           "3",
		fmt.Sprintf("HGET %d_%d_im_user_group count", u[0], g): "2",
		fmt.Sprintf("HGET %d_%d_im_user_group count", u[1], g): "3",
		fmt.Sprintf("HGET %d_%d_im_user_group count", u[2], g): "0",
		fmt.Sprintf("HGET %d_%d_im_user_group count", u[3], g): "3",
		fmt.Sprintf("HEXISTS group_member_%d %d", g, u[0]):     "0",
		fmt.Sprintf("HLEN %d_im_group_msg", g):                 "1",
		fmt.Sprintf("TYPE %d_%d_im_user_group", u[3], g):       "hash",
		fmt.Sprintf("HGET group_member_%d %d", g, u[1]): e.names(t,
			fmt.Sprintf("SELECT created FROM IMGroupMember WHERE groupId=%d AND userId=%d", g,
				u[1]))[0],
	} {
		if got := e.redis.Do(command); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	row := e.names(t, fmt.Sprintf("SELECT CONCAT_WS(' ', userCnt, status, version, lastChated>0, "+
		"updated>=created) FROM IMGroup WHERE id=%d", g))
	if row[0] != "3 0 3 1 1" {
		t.Errorf("IMGroup: %q", row)
	}
	rows := e.names(t, fmt.Sprintf("SELECT CONCAT_WS(' ', userId, msgId, type, status) "+
		"FROM IMGroupMessage_%d WHERE groupId=%d ORDER BY msgId", g%8, g))
	if want := []string{fmt.Sprintf("%d 1 17 0", u[0]), fmt.Sprintf("%d 2 17 0", u[0]),
		fmt.Sprintf("%d 3 17 0", u[1])}; !slices.Equal(rows, want) {
		t.Errorf("messages %q, want %q", rows, want)
	}
}

// TestChangesByCPPServers changes rows as C++ servers do, which raise the version
// afterwards. The next message and read must see the change.
func TestChangesByCPPServers(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 4)
	g := newGroup(t, s, u[0], u[1])
	send(t, s, groupTexts(u[0], g, 2)...)
	now := time.Now().Unix()
	e.exec(t, fmt.Sprintf("INSERT INTO IMGroupMember (groupId, userId, status, created, updated) "+
		"VALUES (%d,%d,0,%d,%[3]d)", g, u[2], now))
	e.exec(t, fmt.Sprintf("UPDATE IMGroupMember SET status=1, updated=%d "+
		"WHERE groupId=%d AND userId=%d", now, g, u[1]))
	e.exec(t, fmt.Sprintf("UPDATE IMGroup SET version=version+1, userCnt=2 WHERE id=%d", g))
	in, out := groupText(u[2], g, "in"), groupText(u[1], g, "out")
	s.AppendMessages(t.Context(), []*im.Message{in, out})
	if in.Err != nil || in.GroupVersion != 2 {
		t.Errorf("message of an added user: version %d, %v", in.GroupVersion, in.Err)
	}
	if im.KindOf(out.Err) != im.Denied || out.Err == nil {
		t.Errorf("message of a removed user: %v", out.Err)
	}
	if list, err := s.Groups(t.Context(), []uint32{g}); err != nil || len(list) != 1 ||
		!slices.Equal(list[0].Members, []uint32{u[0], u[2]}) {
		t.Errorf("group: %+v, %v", list, err)
	}
	if list, err := s.GroupHistory(t.Context(), u[1], g, 0, 10); err != nil || len(list) != 0 {
		t.Errorf("a removed user reads %d messages, %v", len(list), err)
	}
	// A user that joins again keeps created in the row; updated has the time of joining.
	e.exec(t, fmt.Sprintf("UPDATE IMGroupMember SET status=0, updated=%d "+
		"WHERE groupId=%d AND userId=%d", now+1000, g, u[1]))
	e.exec(t, fmt.Sprintf("UPDATE IMGroup SET version=version+1 WHERE id=%d", g))
	late := groupText(u[0], g, "late")
	late.Created = uint32(now + 1000)
	send(t, s, late)
	if list, err := s.GroupHistory(t.Context(), u[1], g, 0, 10); err != nil || len(list) != 1 ||
		list[0].ID != late.ID {
		t.Errorf("a user that joined again reads %+v, %v", list, err)
	}
	// A change by this store keeps the fields that C++ servers wrote for other users, and
	// adds missing fields. Here both of theirs are missing.
	change(t, s, g, add, u[3])
	want := e.names(t, fmt.Sprintf("SELECT CONCAT(userId, ' ', GREATEST(created, updated)) "+
		"FROM IMGroupMember WHERE groupId=%d AND status=0 ORDER BY CONCAT(userId)", g))
	slices.Sort(want)
	if got := e.mirror(t, g); !slices.Equal(got, want) {
		t.Errorf("Redis has %q, want %q", got, want)
	}
	e.exec(t, fmt.Sprintf("UPDATE IMGroup SET status=1 WHERE id=%d", g))
	m := groupText(u[0], g, "gone")
	s.AppendMessages(t.Context(), []*im.Message{m})
	if im.KindOf(m.Err) != im.Invalid || m.Err == nil {
		t.Errorf("a group that was removed: %v", m.Err)
	}
}

// TestMembersChangedTogether changes one group 200 times from two processes at once,
// while messages are sent. MySQL, Redis and both caches must agree at the end.
func TestMembersChangedTogether(t *testing.T) {
	e := newEnv(t)
	stores := []*Store{e.store(t), e.store(t)}
	u := users(t, stores[0], 12)
	g := newGroup(t, stores[0], u[0])
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Go(func() {
			for n := range 100 {
				how := add
				if n%2 == 1 {
					how = del
				}
				if _, err := s.ChangeMembers(context.Background(), im.MemberEdit{Group: g,
					Type: how, Users: []uint32{u[1+(n*3+i)%11], u[1+(n*7)%11]}}); err != nil {
					t.Error(err)
				}
				m := groupText(u[0], g, "between")
				if s.AppendMessages(context.Background(), []*im.Message{m}); m.Err != nil {
					t.Error(m.Err)
				}
			}
		})
	}
	wg.Wait()
	e.wantMirror(t, "after all", g)
	if n := e.number(t, "SELECT COUNT(*) FROM IMUnreadOutbox WHERE LENGTH(payload)>0 "+
		"AND HEX(payload) LIKE '00020000%'"); n != 0 {
		t.Errorf("%d changes are left in the outbox", n)
	}
	members := func(s *Store) []uint32 {
		list, err := s.Groups(t.Context(), []uint32{g})
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return list[0].Members
	}
	want, err := database.Numbers(t.Context(), e.db,
		fmt.Sprintf("SELECT userId FROM IMGroupMember "+
			"WHERE groupId=%d AND status=0 ORDER BY userId", g))
	if err != nil {
		t.Fatal(err)
	}
	if a, b := members(stores[0]), members(stores[1]); !slices.Equal(a, want) ||
		!slices.Equal(b, want) {
		t.Errorf("members %v and %v, rows %v", a, b, want)
	}
	if n := e.number(t, fmt.Sprintf("SELECT userCnt FROM IMGroup WHERE id=%d", g)); n != len(want) {
		t.Errorf("userCnt %d, want %d", n, len(want))
	}
	if n := e.number(t, fmt.Sprintf("SELECT COUNT(*)-COUNT(DISTINCT userId) FROM IMGroupMember "+
		"WHERE groupId=%d", g)); n != 0 {
		t.Errorf("%d users have two rows", n)
	}
}

// TestGroupCrash crashes a process between the commit and the count, and between the
// count and the end of its outbox row, also with a Redis Cluster.
func TestGroupCrash(t *testing.T) {
	t.Parallel()
	for name, point := range map[string]func(*database.Hooks){
		"not counted": func(h *database.Hooks) {
			h.AfterCommit = func() error { return errCrash }
		},
		"counted, row there": func(h *database.Hooks) {
			h.AfterCount = func() error { return errCrash }
		},
	} {
		for _, cluster := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, cluster %v", name, cluster), func(t *testing.T) {
				e := newEnv(t)
				if cluster {
					e.onCluster(t)
				}
				s := e.open(t)
				u := users(t, s, 3)
				g, h := newGroup(t, s, u...), newGroup(t, s, u...)
				send(t, s, groupTexts(u[0], g, 2)...)
				point(&s.db.Hooks)
				batch := append(groupTexts(u[1], g, 2), groupTexts(u[0], g, 3)...)
				batch = append(batch, groupTexts(u[1], h, 4)...)
				send(t, s, append(batch, texts(u[0], u[2], 1)...)...)
				if n := e.outboxRows(t); n == 0 {
					t.Fatal("nothing in the outbox")
				}
				s.Close()
				for range 2 { // recovering twice counts once
					s = e.open(t)
					wantGroupUnread(t, "one group", s, g, u, 0, 3, 7)
					wantGroupUnread(t, "the other", s, h, u, 4, 0, 4)
					if n := unreadOf(t, s, u[2], u[0]); n != 1 {
						t.Errorf("%d unread between users, want 1", n)
					}
					s.Close()
				}
			})
		}
	}
}

// TestGroupCountsLost loses one of the two counts, both, or everything in Redis.
func TestGroupCountsLost(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 3)
	g := newGroup(t, s, u...)
	send(t, s, groupTexts(u[0], g, 20)...)
	wantGroupUnread(t, "at first", s, g, u, 0, 20, 20)
	if err := s.ClearGroupUnread(t.Context(), u[1], g); err != nil {
		t.Fatal(err)
	}
	e.redis.Do(fmt.Sprintf("DEL %d_%d_im_user_group", u[2], g))
	wantGroupUnread(t, "what one has read lost", s, g, u, 0, 0, 20)
	// mostly from before their joining, by servers that do not record it
	e.redis.Do(fmt.Sprintf("HSET %d_im_group_msg count 500", g))
	e.redis.Do(fmt.Sprintf("DEL %d_%d_im_user_group", u[2], g))
	wantGroupUnread(t, "what one has read lost", s, g, u[2:], 20)
	if n := metric(t, s, "group_unread_repaired_total", "read"); n != 2 {
		t.Errorf("%v repairs, want 2", n)
	}
	e.redis.Do(fmt.Sprintf("DEL %d_im_group_msg", g))
	wantGroupUnread(t, "the group's count lost", s, g, u, 0, 0, 0)
	send(t, s, groupTexts(u[0], g, 2)...)
	wantGroupUnread(t, "and messages", s, g, u, 0, 2, 2)
	if n := metric(t, s, "group_unread_repaired_total", "sent"); n != 3 {
		t.Errorf("%v repairs, want 3", n)
	}
	e.redis.FlushAll()
	wantGroupUnread(t, "all lost", s, g, u, 0, 0, 0)
	send(t, s, groupTexts(u[1], g, 3)...)
	wantGroupUnread(t, "all lost, and messages", s, g, u, 3, 0, 3)
	list, err := s.GroupHistory(t.Context(), u[0], g, 0, 100)
	if err != nil || len(list) != 25 || list[0].ID != 25 {
		t.Errorf("%d messages, %v", len(list), err)
	}
	e.redis.Do(fmt.Sprintf("SET %d_im_group_msg nonsense", g))
	wantGroupUnread(t, "not a count", s, g, u, 0, 0, 0)
	send(t, s, groupTexts(u[1], g, 1)...)
	wantGroupUnread(t, "not a count, and a message", s, g, u, 0, 0, 0)
}

// TestGroupUniqueKeyStopsDoubleID is TestUniqueKeyStopsDoubleID for groups.
func TestGroupUniqueKeyStopsDoubleID(t *testing.T) {
	e := newEnv(t)
	a, b := e.store(t), e.store(t)
	u := users(t, a, 3)
	g := newGroup(t, a, u...)
	send(t, a, groupTexts(u[0], g, 2)...)
	send(t, b, groupTexts(u[1], g, 8)...)
	e.redis.Do(fmt.Sprintf("SET group_msg_id_%d 5", g))
	send(t, a, append(groupTexts(u[0], g, 3), text(u[0], u[2], "beside"))...)
	list, err := a.GroupHistory(t.Context(), u[0], g, 0, 100)
	if err != nil || len(list) != 13 || list[0].ID != 13 || list[12].ID != 1 {
		t.Errorf("%d messages, %v", len(list), err)
	}
	wantGroupUnread(t, "after all", a, g, u, 0, 3, 13)
}

// TestAudioRowMissing reads an audio message without a sound: a C++ server may fail
// between the two.
func TestAudioRowMissing(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 2)
	g := newGroup(t, s, u...)
	e.exec(t, "SET GLOBAL auto_increment_increment=3")
	t.Cleanup(func() { e.exec(t, "SET GLOBAL auto_increment_increment=1") })
	s.Close()
	s = e.store(t)
	var batch []*im.Message
	for i := range 4 {
		m := groupText(u[0], g, "")
		m.Type = pb.MsgType_MSG_TYPE_GROUP_AUDIO
		m.Audio = &im.Audio{Path: fmt.Sprintf("g0/%d.amr", i), Size: uint32(100 + i),
			Duration: uint32(i)}
		batch = append(batch, m)
	}
	send(t, s, batch...)
	e.exec(t, "DELETE FROM IMAudio WHERE path='g0/2.amr'")
	e.exec(t, fmt.Sprintf("UPDATE IMGroupMessage_%d SET content='' WHERE groupId=%d AND msgId=1",
		g%8, g))
	list, err := s.GroupHistory(t.Context(), u[1], g, 0, 10)
	if err != nil || len(list) != 4 {
		t.Fatalf("%d messages, %v", len(list), err)
	}
	for i, m := range []*im.Audio{batch[3].Audio, nil, batch[1].Audio, nil} {
		got := list[i].Audio
		if len(list[i].Data) != 0 || (got == nil) != (m == nil) || got != nil && *got != *m {
			t.Errorf("message %d: %+v, data %q; want %+v", list[i].ID, got, list[i].Data, m)
		}
	}
}
