package move

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/embedded"
	"teamtalk/sql/store"
)

var ctx = context.Background()

// world is a store with some of everything, made by random calls.
type world struct {
	testing.TB
	s      im.Store
	random *rand.Rand
	users  []uint32
	groups []uint32
	n      int // of messages

	departed int // users at the end of the list
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// user returns some user that has not departed.
func (w *world) user() uint32 { return w.users[w.random.IntN(len(w.users)-w.departed)] }

// fill fills a new store.
func fill(t testing.TB, s im.Store, seed uint64) *world {
	w := &world{TB: t, s: s, random: rand.New(rand.NewPCG(seed, 1))}
	sales, err := s.CreateDepart(ctx, im.Depart{Name: "Sales", Priority: 3})
	w.check(err)
	east, err := s.CreateDepart(ctx, im.Depart{Name: "Öst \\ '\"", Parent: sales})
	w.check(err)
	gone, err := s.CreateDepart(ctx, im.Depart{Name: "gone"})
	w.check(err)
	w.check(s.UpdateDepart(ctx, im.Depart{ID: gone, Name: "gone",
		Status: pb.DepartmentStatusType_DEPT_STATUS_DELETE}))
	accounts := make([]im.Account, 12)
	for i := range accounts {
		a := &accounts[i]
		a.Name, a.Nick, a.DepartID = fmt.Sprintf("Üser%d", i), fmt.Sprintf("Nick \x00 %d😀", i), east
		a.Password, a.Salt = im.HashPassword(im.ClientPassword("x"), "1234"), "1234"
		a.Domain, a.Phone, a.Email, a.Avatar = "d", "0123", "a@b", "http://x/a.jpg"
		a.Gender = uint32(i % 3)
	}
	accounts[3].Password = "$argon2id$v=19$m=8192,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$" +
		"MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI"
	accounts[3].Salt = im.SaltMoved
	w.users, err = s.CreateUsers(ctx, accounts)
	w.check(err)
	w.check(s.SetSignInfo(ctx, w.users[1], "sign ' \\ 签名"))
	w.check(s.SetPushShield(ctx, w.users[2], true))
	for range 6 {
		w.makeGroup()
	}
	for range 300 {
		w.step()
	}
	w.check(s.SetUserStatus(ctx, w.users[11], im.StatusDeparted))
	w.departed = 1
	_, err = s.SyncSessions(ctx)
	w.check(err)
	return w
}

func (w *world) makeGroup() {
	members := map[uint32]bool{}
	for range 1 + w.random.IntN(6) {
		members[w.user()] = true
	}
	list := slices.Sorted(maps.Keys(members))
	g, err := w.s.CreateGroup(ctx, im.Group{Name: fmt.Sprint("group ", len(w.groups)),
		Creator: list[0], Members: list, Type: pb.GroupType_GROUP_TYPE_TMP}, list[0])
	w.check(err)
	w.groups = append(w.groups, g.ID)
}

// step makes one random change.
func (w *world) step() {
	a, b, g := w.user(), w.user(), w.groups[w.random.IntN(len(w.groups))]
	var err error
	switch k := w.random.IntN(20); {
	case k < 6 && a != b:
		w.say(a, b, false)
	case k < 11:
		w.say(a, g, true)
	case k == 11:
		err = w.s.ClearUnread(ctx, a, b)
	case k == 12:
		err = w.s.ClearGroupUnread(ctx, a, g)
	case k == 13:
		_, err = w.s.ChangeMembers(ctx, im.MemberEdit{Group: g, By: a,
			Type: pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD, Users: []uint32{b}})
	case k == 14:
		_, err = w.s.ChangeMembers(ctx, im.MemberEdit{Group: g, By: b,
			Type: pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL, Users: []uint32{b}})
	case k == 15:
		// a session that is not listed is not found
		if err = w.s.RemoveSession(ctx, a, b, pb.SessionType_SESSION_TYPE_SINGLE); err != nil {
			err = w.s.RemoveSession(ctx, a, g, pb.SessionType_SESSION_TYPE_GROUP)
		}
		if im.KindOf(err) == im.NotFound {
			err = nil
		}
	case k == 16:
		client := pb.ClientType_CLIENT_TYPE_IOS
		if a%2 == 0 {
			client = pb.ClientType_CLIENT_TYPE_ANDROID
		}
		err = w.s.SetDeviceToken(ctx, im.DeviceToken{User: a, Client: client,
			Token: fmt.Sprint("token-", a)})
	case k == 17:
		err = w.s.SetGroupShield(ctx, a, g, w.random.IntN(3) > 0)
	case k == 18:
		w.file(a, b)
	case k == 19:
		err = w.s.ChangeLoginMarks(ctx, nil, []im.NewLoginMark{{
			LoginMarkKey: im.LoginMarkKey{Kind: im.NetworksOfUser, Key: fmt.Sprint(a)},
			LoginMark: im.LoginMark{Value: fmt.Sprint("10.0.0.", b),
				At: uint32(w.s.Now().Unix())}, Keep: time.Hour * 1000}})
	}
	w.check(err)
}

// say stores a message: a text, a text with a client id, or a sound.
func (w *world) say(from, to uint32, group bool) {
	w.n++
	m := &im.Message{From: from, To: to, Created: uint32(w.s.Now().Unix()),
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: fmt.Appendf(nil, "text %d \x00'\\😀 ", w.n)}
	sound := w.n%7 == 0
	switch {
	case group && sound:
		m.Type = pb.MsgType_MSG_TYPE_GROUP_AUDIO
	case group:
		m.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
	case sound:
		m.Type = pb.MsgType_MSG_TYPE_SINGLE_AUDIO
	}
	if sound {
		m.Data, m.Audio = nil, &im.Audio{Path: fmt.Sprint("g0/sound", w.n), Size: 9, Duration: 2}
	}
	if w.n%3 == 0 {
		m.ClientID = fmt.Appendf(nil, "\x00\xff client %d", w.n)
	} else {
		m.SentAs = uint32(w.n)
	}
	w.s.AppendMessages(ctx, []*im.Message{m})
	if m.Err != nil && im.KindOf(m.Err) != im.Denied { // the sender may not be a member
		w.Fatal(m.Err)
	}
}

func (w *world) file(a, b uint32) {
	id, err := uuid.NewRandomFromReader(readerOf{w.random})
	w.check(err)
	f := im.OfflineFile{From: a, To: b, Task: id.String(), Name: "file 'ä\\.txt", Size: 7}
	w.check(w.s.AddOfflineFile(ctx, f))
	if w.random.IntN(3) == 0 {
		w.check(w.s.DeleteOfflineFile(ctx, a, b, f.Task))
	}
}

// readerOf reads random bytes.
type readerOf struct{ r *rand.Rand }

// Read fills b.
func (r readerOf) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.r.Uint32())
	}
	return len(b), nil
}

// dump writes everything that servers and users can read from a store.
func (w *world) dump(s im.Store) string {
	var out strings.Builder
	say := func(what string, err error, list ...any) {
		w.Helper()
		if err != nil {
			w.Fatalf("%s: %v", what, err)
		}
		fmt.Fprintln(&out, append([]any{what}, list...)...)
	}
	departs, _, err := s.DepartsChangedSince(ctx, 1)
	slices.SortFunc(departs, func(a, b im.Depart) int { return int(a.ID) - int(b.ID) })
	say("departments", err, departs)
	list, err := s.ListUsers(ctx, 0, 1000)
	say("users", err, list)
	credentials, newest, err := s.CredentialsChangedSince(ctx, 0, 0, 1000)
	say("credentials", err, credentials, newest)
	names := make([]string, len(list))
	for i, u := range list {
		names[i] = strings.ToUpper(u.Name)
	}
	accounts, err := s.AccountsByName(ctx, names)
	say("accounts", err, accounts)
	tokens, err := s.DeviceTokens(ctx, w.users)
	slices.SortFunc(tokens, func(a, b im.DeviceToken) int { return int(a.User) - int(b.User) })
	say("tokens", err, tokens)
	for _, u := range w.users {
		w.dumpUser(s, u, say, &out)
	}
	for _, g := range w.groups {
		groups, err := s.Groups(ctx, []uint32{g})
		say("group", err, groups)
		left, err := s.LeftGroup(ctx, g, w.users, 1)
		say("left", err, left)
		off, err := s.GroupShields(ctx, g, w.users)
		say("shields", err, off)
	}
	return out.String()
}

// dumpUser writes what a user can read.
func (w *world) dumpUser(s im.Store, u uint32, say func(string, error, ...any), out io.Writer) {
	fmt.Fprintln(out, "user", u)
	sessions, err := s.RecentSessions(ctx, u, 0, 1000)
	slices.SortFunc(sessions, func(a, b im.RecentSession) int {
		return int(a.Type)<<16 + int(a.Peer) - int(b.Type)<<16 - int(b.Peer)
	})
	say("sessions", err, len(sessions))
	for _, r := range sessions {
		say("session", nil, r.Type, r.Peer, r.Updated, listed([]im.Message{r.Latest}))
	}
	counts, total, err := s.UnreadCounts(ctx, u, 1000)
	slices.SortFunc(counts, func(a, b im.Unread) int {
		return int(a.Type)<<16 + int(a.Peer) - int(b.Type)<<16 - int(b.Peer)
	})
	say("unread", err, total)
	for _, c := range counts {
		say("count", nil, c.Type, c.Peer, c.Count, c.Latest.ID)
	}
	in, err := s.GroupsOf(ctx, u, 0, 0)
	say("groups", err, in)
	given, err := s.GivenMemberships(ctx, []uint32{u}, 0, 1)
	say("given", err, given)
	files, err := s.OfflineFiles(ctx, u)
	say("files", err, files)
	marks, err := s.LoginMarks(ctx, []im.LoginMarkKey{{Kind: im.NetworksOfUser,
		Key: fmt.Sprint(u)}})
	say("marks", err, marks)
	for _, peer := range w.users {
		if peer > u {
			h, err := s.History(ctx, u, peer, 0, 1000)
			say("history", err, peer, listed(h))
		}
	}
	for _, g := range w.groups {
		h, err := s.GroupHistory(ctx, u, g, 0, 1000)
		say("history in group", err, g, listed(h))
	}
}

// listed writes messages.
func listed(list []im.Message) string {
	var b strings.Builder
	for _, m := range list {
		fmt.Fprintf(&b, " %d:%d>%d at %d type %d %q", m.ID, m.From, m.To, m.Created, m.Type, m.Data)
		if m.Audio != nil {
			fmt.Fprintf(&b, " %+v", *m.Audio)
		}
	}
	return b.String()
}

// equal compares two dumps line by line.
func equal(t *testing.T, what, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	shown := 0
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] && shown < 5 {
			shown++
			t.Errorf("%s, line %d:\n got %s\nwant %s", what, i, g[i], w[i])
		}
	}
	if len(g) != len(w) {
		t.Errorf("%s: %d lines, want %d", what, len(g), len(w))
	}
}

// databases makes an empty MySQL database and an empty Redis.
func databases(t *testing.T) MySQL {
	t.Helper()
	return MySQL{DSN: dbtest.MariaDB(t).NewDatabase(t),
		Redis: store.Redis{Unread: store.Instance{Addrs: []string{dbtest.Redis(t).Addr()}}}}
}

func openLite(t *testing.T, dir string) *embedded.Store {
	t.Helper()
	s, err := embedded.Open(ctx, embedded.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openBig(t *testing.T, m MySQL) *store.Store {
	t.Helper()
	s, err := store.Open(ctx, store.Options{Master: m.DSN, Redis: m.Redis, Workers: 4})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closing(t *testing.T, s im.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// next stores a message in each conversation with one, and returns the ids.
func (w *world) next(s im.Store) string {
	var out strings.Builder
	for i, a := range w.users[:11] {
		for _, b := range w.users[i+1 : 11] {
			m := &im.Message{From: a, To: b, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT,
				Data: []byte("next"), Created: 1}
			s.AppendMessages(ctx, []*im.Message{m})
			fmt.Fprintln(&out, a, b, m.ID, m.Err)
		}
	}
	return out.String()
}

// TestThereAndBack moves stores with random content to MySQL and back. Users and servers read the
// same from each, before and after the next messages.
func TestThereAndBack(t *testing.T) {
	seeds := []uint64{0, 3}
	if os.Getenv("TEAMTALK_TEST_LONG") != "" {
		seeds = []uint64{0, 1, 2, 3}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			m := databases(t)
			if seed == 3 { // in a Redis Cluster
				m.Redis.Unread = store.Instance{Addrs: []string{dbtest.RedisCluster(t).Addr()},
					Cluster: true}
			}
			dir := filepath.Join(t.TempDir(), "first")
			s := openLite(t, dir)
			w := fill(t, s, seed)
			want := w.dump(s)
			closing(t, s)
			report, err := ToMySQL(ctx, dir, m, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if len(report.Notes) > 0 {
				t.Errorf("notes %q", report.Notes)
			}
			s2 := openBig(t, m)
			equal(t, "in MySQL", w.dump(s2), want)
			rebuilt, err := s2.RebuildUnread(ctx)
			if err != nil || rebuilt.Counts > 0 {
				t.Errorf("a rebuild of unread counts raised %+v, %v, want none", rebuilt, err)
			}
			closing(t, s2)
			back := filepath.Join(t.TempDir(), "back")
			if _, err := ToEmbedded(ctx, m, back, Options{}); err != nil {
				t.Fatal(err)
			}
			s3 := openLite(t, back)
			equal(t, "back", w.dump(s3), want)
			s, s2 = openLite(t, dir), openBig(t, m)
			ids := w.next(s)
			equal(t, "next ids in MySQL", w.next(s2), ids)
			equal(t, "next ids back", w.next(s3), ids)
			for _, s := range []im.Store{s, s2, s3} {
				closing(t, s)
			}
		})
	}
}
