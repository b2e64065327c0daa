package embedded

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

const (
	adding = pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	taking = pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL
)

// groupMessage returns a text message to a group.
func groupMessage(from, group uint32, body string) *im.Message {
	m := message(from, group, body)
	m.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
	return m
}

// newGroup creates a group.
func newGroup(t *testing.T, s *Store, members ...uint32) uint32 {
	t.Helper()
	g, err := s.CreateGroup(context.Background(), im.Group{Name: "g",
		Type: pb.GroupType_GROUP_TYPE_TMP, Members: members}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return g.ID
}

// changeMembers changes a group's members.
func changeMembers(t *testing.T, s *Store, group uint32, how pb.GroupModifyType, users ...uint32) {
	t.Helper()
	if _, err := s.ChangeMembers(context.Background(), im.MemberEdit{Group: group,
		Type: how, Users: users}); err != nil {
		t.Fatal(err)
	}
}

// unreadIn returns the number of unread messages that a user has in a group.
func unreadIn(t *testing.T, s *Store, user, group uint32) (n uint32) {
	t.Helper()
	counts, _, err := s.UnreadCounts(context.Background(), user, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range counts {
		if c.Type == pb.SessionType_SESSION_TYPE_GROUP && c.Peer == group {
			n = c.Count
		}
	}
	return n
}

// TestGroupCacheAgrees is TestCacheAgrees for groups: with a stale cache the batch would
// be stored again.
func TestGroupCacheAgrees(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data"), Metrics: reg})
	defer s.Close()
	u := people(t, s, 3)
	a, b := newGroup(t, s, u...), newGroup(t, s, u[:2]...)
	for range 3 {
		add(t, s, groupMessage(u[0], a, "x"), groupMessage(u[1], b, "y"),
			groupMessage(u[1], a, "z"))
	}
	refuse(t, s, "refused")
	batch := []*im.Message{groupMessage(u[0], a, "x"), groupMessage(u[0], a, "refused"),
		groupMessage(u[2], b, "denied"), groupMessage(u[1], a, "y")}
	s.AppendMessages(context.Background(), batch)
	if got := gather(t, reg); got["bisects_total"] != 1 || got["failed_total denied"] != 1 ||
		got["failed_total internal"] != 1 {
		t.Fatalf("metrics %v, want one batch done again, one message refused, one denied", got)
	}
	changeMembers(t, s, a, taking, u[2])
	if err := s.SetGroupName(context.Background(), b, "renamed"); err != nil {
		t.Fatal(err)
	}
	last := []*im.Message{groupMessage(u[0], a, "x"), groupMessage(u[1], b, "y")}
	add(t, s, last...)
	if last[0].ID != 9 || last[1].ID != 4 || last[0].GroupVersion != 2 ||
		last[1].GroupVersion != 2 {
		t.Errorf("ids %d, %d, versions %d, %d; want 9, 4, 2, 2", last[0].ID, last[1].ID,
			last[0].GroupVersion, last[1].GroupVersion)
	}
	if got := gather(t, reg)["bisects_total"]; got != 1 {
		t.Errorf("%v batches done again, the last without need", got)
	}
}

// TestGroupAbandoned rolls back transactions about groups. Their changes must leave the
// caches.
func TestGroupAbandoned(t *testing.T) {
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	u := people(t, s, 3)
	g := newGroup(t, s, u[:2]...)
	add(t, s, groupMessage(u[0], g, "x"))
	stop := errors.New("stop")
	for name, f := range map[string]func(*writer) error{
		"append": func(w *writer) error {
			return s.appendAll(w, []pending{{m: groupMessage(u[0], g, "taken back")}})
		},
		"join and append": func(w *writer) error {
			if _, _, err := w.changeMembers(im.MemberEdit{Group: g, Type: adding,
				Users: u}, 1); err != nil {
				return err
			}
			todo := []pending{{m: groupMessage(u[2], g, "taken back")}}
			err := s.appendAll(w, todo)
			if todo[0].err != nil {
				t.Errorf("message of a user that has joined: %v", todo[0].err)
			}
			return err
		},
		"leave": func(w *writer) error {
			_, _, err := w.changeMembers(im.MemberEdit{Group: g, Type: taking, Users: u}, 1)
			return err
		},
	} {
		err := s.transact(context.Background(), func(w *writer) error {
			if err := f(w); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			return stop
		})
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
	}
	mine, theirs := groupMessage(u[1], g, "y"), groupMessage(u[2], g, "z")
	s.AppendMessages(context.Background(), []*im.Message{mine, theirs})
	if mine.Err != nil || mine.ID != 2 || mine.GroupVersion != 1 ||
		im.KindOf(theirs.Err) != im.Denied {
		t.Errorf("id %d, version %d, %v; user that never joined: %v", mine.ID, mine.GroupVersion,
			mine.Err, theirs.Err)
	}
	checkWhole(t, s)
}

// TestRefusalsKeepCaches requires that requests that change nothing keep the caches. Any
// client can send any number of them.
func TestRefusalsKeepCaches(t *testing.T) {
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	u := people(t, s, 3)
	g := newGroup(t, s, u[:2]...)
	add(t, s, groupMessage(u[0], g, "x"), message(u[0], u[1], "y"))
	ctx := context.Background()
	no := im.Errorf(im.Denied, "no")
	for name, call := range map[string]func() error{
		"denied": func() error {
			_, err := s.ChangeMembers(ctx, im.MemberEdit{Group: g, Type: adding, Users: u,
				Allow: func(*im.Group, []uint32) ([]uint32, error) { return nil, no }})
			return err
		},
		"no such group": func() error {
			_, err := s.ChangeMembers(ctx, im.MemberEdit{Group: g + 1, Type: adding, Users: u})
			return err
		},
		"nobody": func() error {
			_, err := s.CreateGroup(ctx, im.Group{Name: "g", Type: 1,
				Members: []uint32{99}}, 0)
			return err
		},
		"no group's name": func() error { return s.SetGroupName(ctx, g+1, "x") },
		"no session": func() error {
			return s.RemoveSession(ctx, u[2], g, pb.SessionType_SESSION_TYPE_GROUP)
		},
		"nothing to do": func() error {
			_, err := s.ChangeMembers(ctx, im.MemberEdit{Group: g, Type: adding, Users: u[:2]})
			return errors.Join(err, no)
		},
	} {
		if call() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	w := s.writer
	if !w.groups.Contains(g) || !w.members.Contains(memberKey{g, u[0]}) ||
		w.relations.Len() != 1 || w.recipients.Len() != 1 {
		t.Errorf("%d groups, %d members, %d conversations, %d recipients are left in the caches, "+
			"want 1 each",
			w.groups.Len(), w.members.Len(), w.relations.Len(), w.recipients.Len())
	}
}

// TestAudioRowMissing lists a message whose sound was deleted.
func TestAudioRowMissing(t *testing.T) {
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	u := people(t, s, 2)
	g := newGroup(t, s, u...)
	single, group := message(u[0], u[1], ""), groupMessage(u[0], g, "")
	single.Type, group.Type = pb.MsgType_MSG_TYPE_SINGLE_AUDIO, pb.MsgType_MSG_TYPE_GROUP_AUDIO
	single.Audio = &im.Audio{Path: "x"}
	group.Audio = single.Audio
	add(t, s, single, group)
	settle(t, s)
	if err := s.writer.exec("delete from IMAudio"); err != nil {
		t.Fatal(err)
	}
	one, err := s.History(context.Background(), u[1], u[0], 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	two, err := s.GroupHistory(context.Background(), u[1], g, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range append(one, two...) {
		if got.ID != 1 || got.Audio != nil || len(got.Data) != 0 {
			t.Errorf("got %+v", got)
		}
	}
	if len(one) != 1 || len(two) != 1 {
		t.Errorf("%d and %d messages, want 1 and 1", len(one), len(two))
	}
}

// TestUpgrade opens a directory of the first version: its data remains, and groups can be
// created.
func TestUpgrade(t *testing.T) {
	dir := t.TempDir()
	steps, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	const user = `insert into IMUser (id, nameKey, name, domain, nick, sex, password, salt, phone,
		email, avatar, departId, status, push_shield_status,
		sign_info, created, updated) values (%[1]d, 'u%[1]d', 'u%[1]d', '', '', 0, '', '', '', '',
		'', 0, 0, 0, '', 1, 1);`
	_, err = db.Exec(steps[0].script +
		fmt.Sprintf("; pragma user_version = 1; pragma application_id = %d;", applicationID) +
		fmt.Sprintf(user, 1) + fmt.Sprintf(user, 2) + `
		insert into IMRelationShip (id, smallId, bigId, lastMsgId, unreadSmall, unreadBig, created,
		updated) values (1, 1, 2, 1, 0, 1, 5, 5);
		insert into IMMessage (id, fromId, type, created, content) values ((1 << 32) + 1, 1, 1, 5,
		cast('old' as blob));`)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	for range 2 {
		s := open(t, Options{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
		got, err := s.History(context.Background(), 2, 1, 0, 10)
		if err != nil || len(got) != 1 || string(got[0].Data) != "old" {
			t.Errorf("got %+v, %v", got, err)
		}
		totals, err := s.UnreadTotals(context.Background(), []uint32{1, 2})
		if err != nil || totals[2] != 1 || totals[1] != 0 {
			t.Errorf("unread %v, %v", totals, err)
		}
		g := newGroup(t, s, 1, 2)
		add(t, s, groupMessage(1, g, "new"))
		if n := unreadIn(t, s, 2, g); n != 1 {
			t.Errorf("%d unread, want 1", n)
		}
		if err := s.ClearGroupUnread(context.Background(), 2, g); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	want := fmt.Sprintf("from=1 to=%d duration=", len(steps))
	if strings.Count(log.String(), "schema of the embedded store updated") != 1 ||
		!strings.Contains(log.String(), want) {
		t.Errorf("the log lacks one line with %q: %s", want, &log)
	}
}

// TestJoinedBeforeMissing: a member whose first message is missing in the tables is not shown the
// one before it joined.
func TestJoinedBeforeMissing(t *testing.T) {
	s := open(t, Options{Dir: filepath.Join(t.TempDir(), "data")})
	defer s.Close()
	ctx := context.Background()
	u := people(t, s, 3)
	g := newGroup(t, s, u[:2]...)
	add(t, s, groupMessage(u[0], g, "before"))
	changeMembers(t, s, g, pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD, u[2])
	change(t, s, "create trigger reject before insert on IMGroupMessage "+
		"begin select raise(abort, 'rejected by the test'); end")
	add(t, s, groupMessage(u[0], g, "after"))
	for user, want := range map[uint32]string{u[1]: "before", u[2]: ""} {
		unread, _, err := s.UnreadCounts(ctx, user, 10)
		if err != nil {
			t.Fatal(err)
		}
		list, err := s.RecentSessions(ctx, user, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for i := range unread {
			got += string(unread[i].Latest.Data)
		}
		for i := range list {
			got += string(list[i].Latest.Data)
		}
		if got != want+want {
			t.Errorf("user %d sees %q, want %q twice", user, got, want)
		}
	}
}
