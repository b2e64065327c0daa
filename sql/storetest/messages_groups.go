package storetest

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

var groupMessageTests = []test{
	{"every field comes back", everyGroupMessageField},
	{"bodies", groupBodies},
	{"audio, both kinds", audio},
	{"audio, invalid", audioInvalid},
	{"both kinds in one batch", mixedBatch},
	{"a large batch into many groups", largeGroupBatch},
	{"a bad message fails alone", badGroupFailsAlone},
	{"a message that the database rejects fails alone", refusedGroupFailsAlone},
	{"client ids", groupClientIDs},
	{"client ids of a user and a group of one number", twinClientIDs},
	{"client ids of many conversations and groups", manyClientIDs},
	{"client id of a stranger", clientIDOfDenied},
	{"a user and a group of one number", twins},
	{"last chat", lastChat},
}

// groupText returns a text message to a group. Its creation time does not matter.
func groupText(from, group uint32, body string) *im.Message {
	m := text(from, group, body)
	m.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
	return m
}

// groupText returns a text message to a group, created now, so that current members see
// it.
func (f *fixture) groupText(from, group uint32, body string) *im.Message {
	m := groupText(from, group, body)
	m.Created = f.now()
	return m
}

// post stores a text message, created now, in a group.
func (f *fixture) post(from, group uint32, body string) *im.Message {
	f.Helper()
	m := f.groupText(from, group, body)
	f.append(m)
	return m
}

// groupHistory returns the messages of a group that user sees, oldest first. It checks
// that the store returned them newest first and without duplicate ids.
func (f *fixture) groupHistory(user, group uint32) []im.Message {
	f.Helper()
	got, err := f.s.GroupHistory(f.ctx, user, group, 0, 1<<20)
	f.check("GroupHistory", err)
	for i := 1; i < len(got); i++ {
		if got[i].ID >= got[i-1].ID {
			f.Fatalf("GroupHistory is not newest first: %d before %d", got[i-1].ID, got[i].ID)
		}
	}
	slices.Reverse(got)
	return got
}

// wantGroupHistory checks that user sees exactly these messages of a group.
func (f *fixture) wantGroupHistory(user, group uint32, want ...*im.Message) {
	f.Helper()
	got := f.groupHistory(user, group)
	if len(got) != len(want) {
		f.Fatalf("user %d sees %d messages of group %d, want %d", user, len(got), group, len(want))
	}
	for i := range got {
		if !sameMessage(got[i], *want[i]) {
			f.Errorf("group %d:\n got %+v\nwant %+v", group, got[i], *want[i])
		}
	}
}

func everyGroupMessageField(f *fixture) {
	u := f.users(3)
	g := f.group(u...)
	m := f.groupText(u[1], g.ID, "gAAAAABh+/==")
	m.Created = math.MaxUint32
	m.ClientID = bytes.Repeat([]byte{0, 0xff}, im.MaxClientID/2)
	f.append(m)
	if m.ID != 1 || m.GroupVersion != 1 {
		f.Errorf("id %d, version %d, want 1, 1", m.ID, m.GroupVersion)
	}
	for _, user := range u {
		f.wantGroupHistory(user, g.ID, m)
	}
}

func groupBodies(f *fixture) {
	u := f.users(2)
	g := f.group(u...)
	var stored []*im.Message
	for _, tc := range []struct {
		name, body string
		invalid    bool
	}{
		{name: "empty", body: ""},
		{name: "emoji and more", body: "🙂👨‍👩‍👧 漢字 ａ́ \u200d"},
		{name: "blanks at the ends, NUL inside", body: "  \t x \x00 \r\n  "},
		{name: "as long as can be", body: strings.Repeat("x", im.MaxContent)},
		{name: "a byte too long", body: strings.Repeat("x", im.MaxContent+1), invalid: true},
		{name: "not UTF-8", body: "a\xff\xfe\x80", invalid: true},
	} {
		m := f.groupText(u[0], g.ID, tc.body)
		f.s.AppendMessages(f.ctx, []*im.Message{m})
		if tc.invalid {
			f.wantKind(tc.name, m.Err, im.Invalid)
		} else if stored = append(stored, m); m.Err != nil {
			f.Errorf("%s: %v", tc.name, m.Err)
		}
	}
	f.wantGroupHistory(u[1], g.ID, stored...)
}

func mixedBatch(f *fixture) {
	u := f.users(4)
	a, b := f.group(u[:3]...), f.group(u[0], u[3])
	batches := [][]*im.Message{
		{text(u[0], u[1], "1"), f.groupText(u[0], a.ID, "1"), f.groupText(u[3], b.ID, "1"),
			text(u[1], u[0], "2"), f.groupText(u[1], a.ID, "2"),
			f.groupText(u[0], a.ID, "3"), text(u[0], u[1], "3")},
		{f.groupText(u[0], b.ID, "2"), text(u[2], u[0], "1"), f.groupText(u[2], a.ID, "4")},
	}
	var all []*im.Message
	for _, batch := range batches {
		f.append(batch...)
		all = append(all, batch...)
	}
	pick := func(key uint64) (messages []*im.Message) {
		for _, m := range all {
			if m.Key() == key {
				messages = append(messages, m)
			}
		}
		return messages
	}
	for _, m := range all {
		if got := fmt.Sprint(m.ID); got != string(m.Data) {
			f.Errorf("message %s of %d to %d has id %s", m.Data, m.From, m.To, got)
		}
	}
	f.wantHistory(u[0], u[1], pick(im.ConversationKey(u[0], u[1]))...)
	f.wantHistory(u[0], u[2], pick(im.ConversationKey(u[0], u[2]))...)
	f.wantGroupHistory(u[1], a.ID, pick(im.GroupKey(a.ID))...)
	f.wantGroupHistory(u[3], b.ID, pick(im.GroupKey(b.ID))...)
	// The unread messages are those after the user's own last message.
	for _, tc := range []struct{ user, group, want uint32 }{
		{u[0], a.ID, 1}, {u[1], a.ID, 2}, {u[2], a.ID, 0}, {u[0], b.ID, 0}, {u[3], b.ID,
			1}, {u[3], a.ID, 0},
	} {
		if got := f.groupUnread(tc.user, tc.group); got != tc.want {
			f.Errorf("user %d has %d unread in group %d, want %d", tc.user, got, tc.group, tc.want)
		}
	}
}

func largeGroupBatch(f *fixture) {
	u := f.users(30)
	var groups []im.Group
	for i := range 25 {
		groups = append(groups, f.group(u[i:i+5]...))
	}
	var batch []*im.Message
	for i := range 2000 {
		g := groups[i*7%len(groups)]
		batch = append(batch, f.groupText(g.Members[i%5], g.ID, fmt.Sprint(i)))
	}
	f.append(batch...)
	last := map[uint32]uint32{}
	for i, m := range batch {
		if last[m.To]++; m.ID != last[m.To] || m.GroupVersion != 1 {
			f.Fatalf("message %d: id %d, version %d; want %d, 1", i, m.ID,
				m.GroupVersion, last[m.To])
		}
	}
	m := batch[len(batch)/2]
	got, err := f.s.GroupMessagesByID(f.ctx, m.From, m.To, []uint32{m.ID})
	if err != nil || len(got) != 1 || !sameMessage(got[0], *m) {
		f.Errorf("got %+v, %v; want %+v", got, err, *m)
	}
}

func badGroupFailsAlone(f *fixture) {
	u := f.users(4)
	g, other := f.group(u[:3]...), f.group(u[3])
	f.change(g.ID, del, u[2])
	long := f.groupText(u[0], g.ID, "x")
	long.ClientID = make([]byte, im.MaxClientID+1)
	var stored []*im.Message
	for _, tc := range []struct {
		name string
		bad  *im.Message
		kind im.Kind
	}{
		{"too long", f.groupText(u[0], g.ID, strings.Repeat("x", im.MaxContent+1)), im.Invalid},
		{"not UTF-8", f.groupText(u[0], g.ID, "\xff"), im.Invalid},
		{"client id too long", long, im.Invalid},
		{"no such group", f.groupText(u[0], max(g.ID, other.ID)+1000, "x"), im.Invalid},
		{"group 0", f.groupText(u[0], 0, "x"), im.Invalid},
		{"not a member", f.groupText(u[0], other.ID, "x"), im.Denied},
		{"no longer a member", f.groupText(u[2], g.ID, "x"), im.Denied},
		{"no such user", f.groupText(math.MaxUint32, g.ID, "x"), im.Denied},
	} {
		good := []*im.Message{f.groupText(u[0], g.ID, tc.name), f.groupText(u[1], g.ID, "after"),
			text(u[0], u[3], "elsewhere")}
		f.s.AppendMessages(f.ctx, []*im.Message{good[0], tc.bad, good[1], good[2]})
		f.wantKind(tc.name, tc.bad.Err, tc.kind)
		if tc.bad.ID != 0 || tc.bad.Duplicate {
			f.Errorf("%s: id %d, duplicate %v", tc.name, tc.bad.ID, tc.bad.Duplicate)
		}
		for i, m := range good {
			if m.Err != nil || m.ID == 0 || m.Duplicate {
				f.Errorf("%s: good message %d: id %d, duplicate %v, %v", tc.name, i, m.ID,
					m.Duplicate, m.Err)
			}
		}
		stored = append(stored, good[0], good[1])
		f.wantGroupHistory(u[1], g.ID, stored...)
	}
	f.wantGroupHistory(u[3], other.ID)
	if got := f.groupUnread(u[3], other.ID); got != 0 {
		f.Errorf("%d unread in a group without messages", got)
	}
}

func refusedGroupFailsAlone(f *fixture) {
	if f.factory.FailOn == nil {
		f.Skip("the factory has no FailOn")
	}
	u := f.users(3)
	a, b := f.group(u...), f.group(u[:2]...)
	f.factory.FailOn(f.T, f.s, "refused")
	named := f.groupText(u[0], a.ID, "refused")
	named.ClientID = []byte("id")
	batch := []*im.Message{
		f.groupText(u[0], a.ID, "a1"), named, f.groupText(u[1], a.ID, "a2"), text(u[0], u[1], "c1"),
		f.groupText(u[0], b.ID, "refused"), f.groupText(u[2], b.ID, "denied"),
		text(u[0], u[1], "refused"), f.groupText(u[0], a.ID, "a3"),
	}
	f.s.AppendMessages(f.ctx, batch)
	var stored []*im.Message
	for i, m := range batch {
		switch string(m.Data) {
		case "denied":
			f.wantKind("not a member", m.Err, im.Denied)
		case "refused":
			f.wantKind("refused", m.Err, im.Internal)
		default:
			if m.Err != nil {
				f.Fatalf("message %d, %s: %v", i, m.Data, m.Err)
			}
		}
		if m.Err == nil && m.To == a.ID {
			stored = append(stored, m)
		}
	}
	f.wantGroupHistory(u[2], a.ID, batch[0], batch[2], batch[7])
	f.wantGroupHistory(u[0], b.ID)
	f.wantHistory(u[0], u[1], batch[3])
	for i, want := range []uint32{0, 1, 3} {
		if got := f.groupUnread(u[i], a.ID); got != want {
			f.Errorf("user %d has %d unread, want %d", i, got, want)
		}
	}
	if got := f.groupUnread(u[1], b.ID); got != 0 {
		f.Errorf("%d unread of a refused message", got)
	}
	next := f.groupText(u[0], a.ID, "a4")
	next.ClientID = []byte("id")
	first := f.groupText(u[1], b.ID, "b1")
	f.append(next, first)
	f.wantGroupHistory(u[0], a.ID, append(stored, next)...)
	f.wantGroupHistory(u[0], b.ID, first)
	if got := f.groupUnread(u[2], a.ID); got != 4 {
		f.Errorf("%d unread, want 4", got)
	}
}

// namedIn returns a text message to a group with a client_msg_id.
func (f *fixture) namedIn(from, group uint32, body, id string) *im.Message {
	m := f.groupText(from, group, body)
	m.ClientID = []byte(id)
	return m
}

func groupClientIDs(f *fixture) {
	u := f.users(3)
	a, b := f.group(u...), f.group(u...)
	first, other := f.namedIn(u[0], a.ID, "first", "k"), f.namedIn(u[1], a.ID, "another sender",
		"k")
	elsewhere, again := f.namedIn(u[0], b.ID, "another group", "k"), f.namedIn(u[0], a.ID,
		"resent", "k")
	batch := []*im.Message{f.groupText(u[1], a.ID, "before"), first, other, elsewhere, again}
	f.s.AppendMessages(f.ctx, batch)
	for i, m := range batch[:4] {
		if m.Err != nil || m.Duplicate {
			f.Fatalf("message %d: duplicate %v, %v", i, m.Duplicate, m.Err)
		}
	}
	f.wantDuplicate("resent at once", again, first.ID)
	resend := func(what string) {
		f.Helper()
		m := f.namedIn(u[0], a.ID, "resent", "k")
		f.s.AppendMessages(f.ctx, []*im.Message{m})
		f.wantDuplicate(what, m, first.ID)
	}
	resend("in the next batch")
	f.reopen()
	resend("after reopen")
	f.advance(im.ClientIDTTL*time.Second - time.Minute)
	resend("a minute before it is forgotten")
	f.wantGroupHistory(u[2], a.ID, batch[0], first, other)
	for i, want := range []uint32{1, 0, 3} {
		if got := f.groupUnread(u[i], a.ID); got != want {
			f.Errorf("user %d has %d unread, want %d: a duplicate is neither counted nor "+
				"does it read", i, got, want)
		}
	}
	f.advance(2 * time.Minute)
	later := f.namedIn(u[0], a.ID, "a minute after", "k")
	f.append(later)
	f.wantGroupHistory(u[2], a.ID, batch[0], first, other, later)
}

// twin creates a user and a group with the same id. The group has the given users and the
// new one.
func (f *fixture) twin(users ...uint32) uint32 {
	f.Helper()
	if f.factory.SameIDs != nil {
		f.factory.SameIDs(f.T, f.s)
	}
	ids, err := f.s.CreateUsers(f.ctx, []im.Account{account(5000)})
	f.check("CreateUsers", err)
	for range len(users) + 2 { // the users have taken the ids before it
		if g := f.group(append(users, ids[0])...); g.ID == ids[0] {
			return g.ID
		} else if g.ID > ids[0] {
			break
		}
	}
	f.Fatalf("no user and group of one number: Factory.SameIDs has to see to it")
	return 0
}

func twinClientIDs(f *fixture) {
	a, b := f.pair()
	n := f.twin(a, b)
	for _, when := range []string{"one batch", "batches"} {
		batch := []*im.Message{f.named(a, n, "to the user", when),
			f.namedIn(a, n, "to the group", when)}
		if when == "one batch" {
			f.append(batch...)
		} else {
			f.append(batch[0])
			f.append(batch[1])
		}
		for _, m := range batch {
			again := *m
			f.s.AppendMessages(f.ctx, []*im.Message{&again})
			f.wantDuplicate("resent "+string(m.Data), &again, m.ID)
		}
	}
}

// manyClientIDs uses the same client_msg_id everywhere, so that equal numbers of
// conversations and groups meet in the store.
func manyClientIDs(f *fixture) {
	u := f.users(9)
	var batch []*im.Message
	for _, to := range u[1:] {
		batch = append(batch, f.named(u[0], to, "x", "k"), f.namedIn(u[0], f.group(u...).ID, "x",
			"k"))
	}
	f.append(batch[:8]...)
	f.append(batch[8:]...)
	for _, m := range batch {
		again := *m
		f.s.AppendMessages(f.ctx, []*im.Message{&again})
		f.wantDuplicate("resent", &again, m.ID)
	}
}

func clientIDOfDenied(f *fixture) {
	u := f.users(2)
	g := f.group(u[0])
	m := f.namedIn(u[1], g.ID, "x", "k")
	f.s.AppendMessages(f.ctx, []*im.Message{m})
	f.wantKind("not a member", m.Err, im.Denied)
	f.change(g.ID, add, u[1])
	f.append(m)
	if m.ID != 1 || m.GroupVersion != 2 {
		f.Errorf("id %d, version %d; want 1, 2", m.ID, m.GroupVersion)
	}
}

func twins(f *fixture) {
	a, b := f.pair()
	n := f.twin(a, b)
	toUser := []*im.Message{f.named(a, n, "1", ""), f.named(n, a, "2", "")}
	toGroup := []*im.Message{f.groupText(b, n, "1"),
		f.groupText(n, n, "from the user of that number"), f.groupText(b, n, "3")}
	f.append(toUser[0], toGroup[0], toUser[1], toGroup[1], toGroup[2])
	f.sync()
	f.wantHistory(a, n, toUser...)
	f.wantGroupHistory(a, n, toGroup...)
	counts, _, err := f.s.UnreadCounts(f.ctx, a, 1<<20)
	f.check("UnreadCounts", err)
	if len(counts) != 2 {
		f.Errorf("unread %+v, want one of the user and one of the group", counts)
	}
	f.check("ClearUnread", f.s.ClearUnread(f.ctx, a, n))
	if got := f.groupUnread(a, n); got != 3 {
		f.Errorf("%d unread in the group after the user's were read, want 3", got)
	}
	f.check("ClearGroupUnread", f.s.ClearGroupUnread(f.ctx, n, n))
	if got := f.unread(n, a); got != 1 {
		f.Errorf("%d unread from the user after the group's were read, want 1", got)
	}
	f.check("RemoveSession", f.s.RemoveSession(f.ctx, a, n, groupSession))
	if _, ok := f.sessionOf(a, n, singleSession); !ok {
		f.Error("the user's session has gone with the group's")
	}
	if _, ok := f.sessionOf(a, n, groupSession); ok {
		f.Error("the group's session is still there")
	}
}

func lastChat(f *fixture) {
	u := f.users(2)
	g := f.group(u...)
	for _, created := range []int64{0, 0, 100, -100, 0} {
		f.advance(time.Second)
		m := f.postAt(created, u[0], g.ID, "x")
		g.LastChat = f.readGroup(g.ID).LastChat
		f.wantTime("last chat", g.LastChat, m)
	}
	f.wantGroup(g)
}
