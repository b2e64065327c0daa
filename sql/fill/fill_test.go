package fill

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
	"teamtalk/sql/dbtest"
	"teamtalk/sql/embedded"
	"teamtalk/sql/schema"
	"teamtalk/sql/store"
)

// place is a store under test that can be closed, filled and opened again.
type place struct {
	open func(t *testing.T) im.Store
	fill func(t *testing.T, s Spec) (Result, error)
}

func inEmbedded(t *testing.T) place {
	dir := filepath.Join(t.TempDir(), "data")
	open := func(t *testing.T) *embedded.Store {
		t.Helper()
		s, err := embedded.Open(t.Context(), embedded.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	return place{
		func(t *testing.T) im.Store { return open(t) },
		func(t *testing.T, spec Spec) (Result, error) {
			s := open(t)
			defer s.Close()
			return Embedded(t.Context(), s, spec)
		},
	}
}

var migrated = dbtest.NewTemplate(func(t testing.TB, dsn string) {
	t.Helper()
	db := dbtest.MariaDB(t).Open(t, dsn)
	if err := schema.Migrate(t.Context(), db, schema.Options{}); err != nil {
		t.Fatal(err)
	}
})

func inMySQL(t *testing.T) place {
	redis, dsn := dbtest.Redis(t), migrated.NewDatabase(t)
	return place{
		func(t *testing.T) im.Store {
			t.Helper()
			s, err := store.Open(t.Context(), store.Options{Master: dsn,
				Redis: store.Redis{Unread: store.Instance{Addrs: []string{redis.Addr()}}}})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		func(t *testing.T, spec Spec) (Result, error) { return MySQL(t.Context(), dsn, nil, spec) },
	}
}

func TestFillEmbedded(t *testing.T) { testFill(t, inEmbedded(t)) }

func TestFillMySQL(t *testing.T) { testFill(t, inMySQL(t)) }

// TestFillMySQLWithoutLoad fills a server that refuses LOAD DATA LOCAL.
func TestFillMySQLWithoutLoad(t *testing.T) {
	p := inMySQL(t)
	admin := dbtest.MariaDB(t).Admin()
	if _, err := admin.Exec("SET GLOBAL local_infile=0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := admin.Exec("SET GLOBAL local_infile=1"); err != nil {
			t.Error(err)
		}
	})
	testFill(t, p)
}

// texts have the characters that must be escaped.
var texts = [][]byte{[]byte("plain"),
	[]byte("tab\there, line\nthere\r, back\\slash, quote ' and \"double\", nul\x00 end"),
	[]byte("語音 🎉"), []byte(`\N`)}

const (
	userCount     = 21
	relationCount = 100
	messageCount  = 1050 // 10.5 for each relation
	groupMessages = 70
)

func testFill(t *testing.T, p place) {
	s := p.open(t)
	spec := prepare(t, s)
	closeStore(t, s)

	told := map[string]int64{}
	spec.Progress = func(stage string, done, total int64) {
		if done < told[stage] || done > total {
			t.Errorf("%s: %d of %d after %d", stage, done, total, told[stage])
		}
		told[stage] = done
	}
	res, err := p.fill(t, spec)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Result{relationCount - 1, messageCount, groupMessages}); res != want {
		t.Errorf("%+v, want %+v", res, want)
	}
	if told["messages"] != messageCount || told["group messages"] != groupMessages {
		t.Errorf("Progress reported %v", told)
	}
	s = p.open(t)
	checkFilled(t, s, spec, 1)
	closeStore(t, s)

	// A second run keeps the relations and adds messages.
	clear(told)
	if res, err = p.fill(t, spec); err != nil {
		t.Fatal(err)
	}
	if want := (Result{0, messageCount, groupMessages}); res != want {
		t.Errorf("second run: %+v, want %+v", res, want)
	}
	s = p.open(t)
	checkFilled(t, s, spec, 2)
	continueFilled(t, s, spec)
	closeStore(t, s)
}

// prepare creates users, two groups and a few messages, and returns what to fill in.
func prepare(t *testing.T, s im.Store) Spec {
	t.Helper()
	ctx := t.Context()
	accounts := make([]im.Account, userCount)
	for i := range accounts {
		accounts[i].Name = fmt.Sprintf("user%d", i)
	}
	users, err := s.CreateUsers(ctx, accounts)
	if err != nil {
		t.Fatal(err)
	}
	spec := Spec{Users: users, Relations: relationCount, Messages: messageCount,
		GroupMessages: groupMessages, Texts: texts}
	for range 2 {
		g, err := s.CreateGroup(ctx, im.Group{Name: "g", Type: pb.GroupType_GROUP_TYPE_TMP,
			Members: users[:5]}, 0)
		if err != nil {
			t.Fatal(err)
		}
		spec.Groups = append(spec.Groups, Group{g.ID, g.Members})
	}
	// Some messages exist already, sent through the store.
	send(t, s, users[1], users[0], 1)
	send(t, s, users[0], users[1], 2)
	send(t, s, users[20], users[10], 1) // a relation that Spec does not list
	sendGroup(t, s, users[2], spec.Groups[0].ID, 1)
	return spec
}

func closeStore(t *testing.T, s im.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func send(t *testing.T, s im.Store, from, to, want uint32) {
	t.Helper()
	sendMessage(t, s, &im.Message{From: from, To: to, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT}, want)
}

func sendGroup(t *testing.T, s im.Store, from, group, want uint32) {
	t.Helper()
	sendMessage(t, s, &im.Message{From: from, To: group, Type: pb.MsgType_MSG_TYPE_GROUP_TEXT},
		want)
}

func sendMessage(t *testing.T, s im.Store, m *im.Message, want uint32) {
	t.Helper()
	m.Created, m.Data = uint32(time.Now().Unix()), []byte("sent")
	s.AppendMessages(context.Background(), []*im.Message{m})
	if m.Err != nil || m.ID != want {
		t.Fatalf("message %d to %d got id %d, %v; want %d", m.From, m.To, m.ID, m.Err, want)
	}
}

// pairs returns the relations of a spec, in the order of its list.
func pairs(s Spec) (list [][2]uint32, messages []int) {
	_ = s.check()
	for _, th := range s.relations() {
		list = append(list, [2]uint32{th.a, th.b})
		messages = append(messages, th.n)
	}
	return list, messages
}

// checkFilled reads the rows of so many fills with the store's own code.
func checkFilled(t *testing.T, s im.Store, spec Spec, times int) {
	t.Helper()
	ctx := t.Context()
	list, messages := pairs(spec)
	if list[0] != [2]uint32{spec.Users[0], spec.Users[1]} {
		t.Fatalf("the first pair is %v", list[0])
	}
	peers := map[uint32]int{}
	for i, pair := range list {
		before := 0
		if i == 0 {
			before = 2
		}
		want := before + times*messages[i]
		h, err := s.History(ctx, pair[0], pair[1], 0, 1000)
		if err != nil || len(h) != want {
			t.Fatalf("pair %v has %d messages, want %d (%v)", pair, len(h), want, err)
		}
		checkHistory(t, h[:len(h)-before], before)
		for k, m := range h[:len(h)-before] {
			if m.From == h[min(k+1, len(h)-before-1)].From && k+1 < messages[i] {
				t.Fatalf("pair %v: the users do not write in turn: %+v", pair, h)
			}
		}
		if id, err := s.LatestID(ctx, pair[1], pair[0]); err != nil || int(id) != want {
			t.Fatalf("pair %v: latest id %d, want %d (%v)", pair, id, want, err)
		}
		peers[pair[0]]++
		peers[pair[1]]++
	}
	peers[spec.Users[10]]++ // the relation that Spec does not list
	peers[spec.Users[20]]++
	for i, u := range spec.Users {
		want := peers[u]
		if i < 5 {
			want += len(spec.Groups)
		}
		sessions, err := s.RecentSessions(ctx, u, 0, 1000)
		if err != nil || len(sessions) != want {
			t.Errorf("user %d has %d conversations in its list, want %d (%v)", u, len(sessions),
				want, err)
		}
		for _, r := range sessions {
			// The store may have stored a message that was sent through it in a later second.
			stored := r.Updated >= r.Latest.Created && string(r.Latest.Data) == "sent"
			if r.Updated != r.Latest.Created && !stored || r.Latest.ID == 0 || r.Removed {
				t.Errorf("user %d: %+v", u, r)
			}
		}
	}
	checkGroups(t, s, spec, times)
	checkUnread(t, s, spec)
}

// checkHistory expects messages, newest first, whose ids follow before.
func checkHistory(t *testing.T, h []im.Message, before int) {
	t.Helper()
	for k, m := range h {
		if int(m.ID) != before+len(h)-k || !slices.ContainsFunc(texts,
			func(x []byte) bool { return bytes.Equal(x, m.Data) }) {
			t.Fatalf("message %d of %d after %d: %+v", k, len(h), before, m)
		}
		if k > 0 && m.Created > h[k-1].Created {
			t.Fatalf("message %d is older than the one before it", h[k-1].ID)
		}
	}
}

func checkGroups(t *testing.T, s im.Store, spec Spec, times int) {
	t.Helper()
	for i, g := range spec.Groups {
		before := 1 - i // the first group has one message already
		want := before + times*groupMessages/2
		for _, user := range g.Members {
			h, err := s.GroupHistory(t.Context(), user, g.ID, 0, 1000)
			if err != nil || len(h) != want {
				t.Fatalf("user %d sees %d messages of group %d, want %d (%v)", user, len(h), g.ID,
					want, err)
			}
			checkHistory(t, h[:len(h)-before], before)
			if id, err := s.GroupLatestID(t.Context(), user, g.ID); err != nil || int(id) != want {
				t.Fatalf("group %d: latest id %d, want %d (%v)", g.ID, id, want, err)
			}
		}
	}
}

// checkUnread expects the messages that were sent through the store to be unread, and no
// filled ones. (The embedded store counts from the last message of a group that was read.
// The filled messages are read, and so are those before them.)
func checkUnread(t *testing.T, s im.Store, spec Spec) {
	t.Helper()
	for _, u := range spec.Users {
		counts, _, err := s.UnreadCounts(t.Context(), u, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range counts {
			if c.Count != 1 {
				t.Errorf("user %d: %+v", u, c)
			}
		}
	}
}

// continueFilled sends messages through the store in conversations that were filled.
func continueFilled(t *testing.T, s im.Store, spec Spec) {
	t.Helper()
	list, messages := pairs(spec)
	for i := 1; i < len(list); i += 7 {
		from, to := list[i][1], list[i][0]
		send(t, s, from, to, uint32(2*messages[i]+1))
		counts, _, err := s.UnreadCounts(t.Context(), to, 1<<20)
		if err != nil || !slices.ContainsFunc(counts,
			func(u im.Unread) bool { return u.Peer == from && u.Count == 1 }) {
			t.Errorf("unread of user %d: %+v (%v)", to, counts, err)
		}
	}
	g := spec.Groups[1]
	sendGroup(t, s, g.Members[0], g.ID, groupMessages+1)
	counts, _, err := s.UnreadCounts(t.Context(), g.Members[1], 1<<20)
	if err != nil || !slices.ContainsFunc(counts, func(u im.Unread) bool {
		return u.Peer == g.ID &&
			u.Count == 1
	}) {
		t.Errorf("unread of the group: %+v (%v)", counts, err)
	}
}

// TestRelationsAreDistinct checks that every pair is made once, neighbours first.
func TestRelationsAreDistinct(t *testing.T) {
	for users := 2; users < 12; users++ {
		s := Spec{Relations: MaxRelations(users), Messages: 5 * users, Texts: texts}
		for i := range users {
			s.Users = append(s.Users, uint32(100-i))
		}
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
		seen := map[[2]uint32]bool{}
		n := int64(0)
		list := s.relations()
		for _, th := range list {
			if th.a >= th.b || seen[[2]uint32{th.a, th.b}] || th.until > s.Until ||
				th.until < th.from {
				t.Errorf("%d users: %+v", users, th)
			}
			seen[[2]uint32{th.a, th.b}] = true
			n += int64(th.n)
		}
		if len(seen) != MaxRelations(users) || n != int64(s.Messages) || count(list) != n {
			t.Errorf("%d users: %d pairs, %d messages", users, len(seen), n)
		}
		for i := range users - 1 {
			if th := list[i]; th.a != s.Users[i+1] || th.b != s.Users[i] {
				t.Errorf("%d users: pair %d is %+v", users, i, th)
			}
		}
	}
}

func TestInvalidSpecs(t *testing.T) {
	users := []uint32{1, 2, 3}
	for name, s := range map[string]Spec{
		"too many relations":   {Users: users, Relations: 4},
		"negative":             {Users: users, Relations: -1},
		"messages, but nobody": {Users: users, Messages: 1, Texts: texts},
		"no texts":             {Users: users, Relations: 1, Messages: 1},
		"empty text": {Users: users, Relations: 1, Messages: 1,
			Texts: [][]byte{nil}},
		"long text": {Users: users, Relations: 1, Messages: 1,
			Texts: [][]byte{bytes.Repeat([]byte("x"), 4097)}},
		"not UTF-8": {Users: users, Relations: 1, Messages: 1,
			Texts: [][]byte{{0xff}}},
		"group messages, no groups": {GroupMessages: 1, Texts: texts},
		"empty group":               {GroupMessages: 1, Texts: texts, Groups: []Group{{ID: 1}}},
		"time runs backwards":       {Since: 2, Until: 1},
	} {
		if err := s.check(); im.KindOf(err) != im.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	th := thread{id: 1, n: 10}
	if err := th.after(1<<32-5, 0); im.KindOf(err) != im.Invalid {
		t.Errorf("the last message id exceeds its range: %v", err)
	}
}

// TestFillRefusesWithAReason tries groups that do not exist and a database without
// tables.
func TestFillRefusesWithAReason(t *testing.T) {
	p := inEmbedded(t)
	if _, err := p.fill(t, Spec{GroupMessages: 1, Texts: texts,
		Groups: []Group{{ID: 9, Members: []uint32{1}}}}); im.KindOf(err) != im.NotFound {
		t.Errorf("a group that does not exist: %v", err)
	}
	server := dbtest.MariaDB(t)
	_, err := MySQL(t.Context(), server.NewDatabase(t), nil, Spec{})
	if im.KindOf(err) != im.Invalid || !strings.Contains(err.Error(), "migrate") {
		t.Errorf("a database without tables: %v", err)
	}
	if _, err := inMySQL(t).fill(t, Spec{GroupMessages: 1, Texts: texts,
		Groups: []Group{{ID: 9, Members: []uint32{1}}}}); im.KindOf(err) != im.NotFound {
		t.Errorf("a group that does not exist: %v", err)
	}
}
