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

var messageTests = []test{
	{"every field comes back", everyMessageField},
	{"bodies", bodies},
	{"empty batch", emptyBatch},
	{"ids count from one per conversation, in batch order", batchOrder},
	{"a large batch", largeBatch},
	{"a bad message fails alone", badFailsAlone},
	{"a message that the database rejects fails alone", refusedFailsAlone},
	{"recipient that departs", recipientDeparts},
	{"client id: same batch", clientIDSameBatch},
	{"client id: later batch, after reopen", clientIDLater},
	{"client id: belongs to sender and recipient", clientIDScope},
	{"client id: of a message that failed", clientIDOfFailed},
	{"client id: how long it is remembered", clientIDForgotten},
	{"resent: on a new connection", resentLater},
	{"resent: in the same batch", resentSameBatch},
	{"resent: what is another message", resentDiffers},
	{"resent: to groups, and sounds", resentKinds},
	{"resent: to another process", resentElsewhere},
	{"tried again", triedAgain},
	{"survive reopen", messagesSurvive},
}

// text returns a text message with a creation time of its own.
func text(from, to uint32, body string) *im.Message {
	return &im.Message{From: from, To: to, Created: 1_700_000_000,
		Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT, Data: []byte(body)}
}

// texts returns n messages from one user to another, with the bodies 0 … n-1.
func texts(from, to uint32, n int) []*im.Message {
	batch := make([]*im.Message, n)
	for i := range batch {
		batch[i] = text(from, to, fmt.Sprintf("%d>%d #%d", from, to, i))
	}
	return batch
}

// append stores messages that must all be stored.
func (f *fixture) append(batch ...*im.Message) {
	f.Helper()
	at := span{from: f.now()}
	f.s.AppendMessages(f.ctx, batch)
	at.to = f.now()
	for i, m := range batch {
		f.stored[m] = at
		if m.Err != nil {
			f.Fatalf("message %d of %d, %d to %d: %v", i, len(batch), m.From, m.To, m.Err)
		}
		if m.Duplicate {
			f.Fatalf("message %d of %d, %d to %d: taken for a duplicate of %d", i, len(batch),
				m.From, m.To, m.ID)
		}
		if m.ID == 0 {
			f.Fatalf("message %d of %d, %d to %d: stored without an id", i, len(batch), m.From,
				m.To)
		}
	}
}

// history returns a whole conversation, oldest first. It checks that the store returned
// it newest first and without duplicate ids.
func (f *fixture) history(user, peer uint32) []im.Message {
	f.Helper()
	got, err := f.s.History(f.ctx, user, peer, 0, 1<<20)
	f.check("History", err)
	for i := 1; i < len(got); i++ {
		if got[i].ID >= got[i-1].ID {
			f.Fatalf("History is not newest first: %d before %d", got[i-1].ID, got[i].ID)
		}
	}
	slices.Reverse(got)
	return got
}

// sameMessage compares the fields that readers see: all except the client's id.
func sameMessage(got, want im.Message) bool {
	data := want.Data
	if want.Audio != nil { // the sound is stored in its place
		data = nil
	}
	if (got.Audio == nil) != (want.Audio == nil) || got.Audio != nil && *got.Audio != *want.Audio {
		return false
	}
	return got.ID == want.ID && got.From == want.From && got.To == want.To &&
		got.Created == want.Created &&
		got.Type == want.Type && bytes.Equal(got.Data, data) && got.Err == nil && !got.Duplicate
}

// wantHistory checks that a conversation, read from both sides, has exactly these
// messages.
func (f *fixture) wantHistory(a, b uint32, want ...*im.Message) {
	f.Helper()
	for _, side := range [][2]uint32{{a, b}, {b, a}} {
		got := f.history(side[0], side[1])
		if len(got) != len(want) {
			f.Fatalf("history of %d and %d has %d messages, want %d", side[0], side[1],
				len(got), len(want))
		}
		for i := range got {
			if !sameMessage(got[i], *want[i]) {
				f.Errorf("history of %d and %d:\n got %+v\nwant %+v", side[0], side[1],
					got[i], *want[i])
			}
		}
	}
}

func everyMessageField(f *fixture) {
	a, b := f.pair()
	m := &im.Message{From: b, To: a, Created: math.MaxUint32, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT,
		Data:     []byte("42"),
		ClientID: bytes.Repeat([]byte{0, 0xff}, im.MaxClientID/2)}
	f.append(m)
	if m.ID != 1 {
		f.Errorf("id %d, want 1", m.ID)
	}
	f.wantHistory(a, b, m)
}

// everyASCII holds each character from NUL to DEL.
var everyASCII = func() string {
	b := make([]byte, 128)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}()

func bodies(f *fixture) {
	a, b := f.pair()
	var stored []*im.Message
	for _, tc := range []struct {
		name, body string
		kind       im.Kind // im.Internal, the zero value, means that the message is stored
	}{
		{name: "empty", body: ""},
		{name: "base64", body: "gAAAAABh+/=="},
		{name: "emoji and more", body: "🙂👨‍👩‍👧 漢字 ａ́ \u200d"},
		{name: "blanks at the ends", body: "  \t x \r\n  "},
		{name: "NUL inside", body: "a\x00b\x00"},
		{name: "quotes and wildcards", body: `'";\%_--\'`},
		{name: "what looks like SQL", body: "?'); DROP TABLE IMUser; /* ? */ -- # \\'; COMMIT;"},
		{name: "every character of ASCII, twice", body: everyASCII + everyASCII},
		{name: "a backslash at the end", body: `\\\`},
		{name: "as long as can be", body: strings.Repeat("x", im.MaxContent)},
		{name: "as long as can be, emoji", body: strings.Repeat("🙂", im.MaxContent/4)},
		{name: "a byte too long", body: strings.Repeat("x", im.MaxContent+1), kind: im.Invalid},
		{name: "a megabyte", body: strings.Repeat("x", 1<<20), kind: im.Invalid},
		{name: "not UTF-8", body: "a\xff\xfe\x80", kind: im.Invalid},
		{name: "a cut emoji", body: "🙂"[:3], kind: im.Invalid},
	} {
		m := text(a, b, tc.body)
		f.s.AppendMessages(f.ctx, []*im.Message{m})
		switch {
		case tc.kind != im.Internal:
			f.wantKind(tc.name, m.Err, tc.kind)
		case m.Err != nil:
			f.Errorf("%s: %v", tc.name, m.Err)
		default:
			stored = append(stored, m)
		}
	}
	none := text(a, b, "")
	none.Data = nil
	f.append(none)
	f.wantHistory(a, b, append(stored, none)...)
}

func emptyBatch(f *fixture) {
	f.s.AppendMessages(f.ctx, nil)
	f.s.AppendMessages(f.ctx, []*im.Message{})
}

func batchOrder(f *fixture) {
	u := f.users(3)
	// Two conversations are mixed, in both directions, over two batches. The order within
	// each conversation must hold.
	first := []*im.Message{text(u[0], u[1], "1"), text(u[2], u[0], "1"), text(u[1], u[0], "2"),
		text(u[0], u[1], "3"), text(u[0], u[2], "2")}
	second := []*im.Message{text(u[1], u[0], "4"), text(u[0], u[1], "5"), text(u[2], u[0], "3")}
	f.append(first...)
	f.append(second...)
	for _, m := range append(first, second...) {
		if got := fmt.Sprint(m.ID); got != string(m.Data) {
			f.Errorf("message %s of %d to %d has id %s", m.Data, m.From, m.To, got)
		}
	}
	f.wantHistory(u[0], u[1], first[0], first[2], first[3], second[0], second[1])
	f.wantHistory(u[0], u[2], first[1], first[4], second[2])
	f.wantHistory(u[1], u[2])
}

func largeBatch(f *fixture) {
	u := f.users(40)
	var batch []*im.Message
	for i := range 2000 {
		from := u[i%len(u)]
		to := u[(i*7+1)%len(u)]
		if from != to {
			batch = append(batch, text(from, to, fmt.Sprint(i)))
		}
	}
	f.append(batch...)
	last := map[uint64]uint32{}
	for i, m := range batch {
		key := im.ConversationKey(m.From, m.To)
		if m.ID != last[key]+1 {
			f.Fatalf("message %d: id %d after %d", i, m.ID, last[key])
		}
		last[key] = m.ID
	}
	m := batch[len(batch)/2]
	got, err := f.s.MessagesByID(f.ctx, m.To, m.From, []uint32{m.ID})
	f.check("MessagesByID", err)
	if len(got) != 1 || !sameMessage(got[0], *m) {
		f.Errorf("got %+v, want %+v", got, *m)
	}
}

// wantNothing checks that a conversation has left no trace.
func (f *fixture) wantNothing(a, b uint32) {
	f.Helper()
	f.wantHistory(a, b)
	if id, err := f.s.LatestID(f.ctx, a, b); err != nil || id != 0 {
		f.Errorf("LatestID of %d and %d is %d, %v", a, b, id, err)
	}
	for _, side := range [][2]uint32{{a, b}, {b, a}} {
		if n := f.unread(side[0], side[1]); n != 0 {
			f.Errorf("%d has %d unread from %d", side[0], n, side[1])
		}
		if _, ok := f.session(side[0], side[1]); ok {
			f.Errorf("%d has a session with %d", side[0], side[1])
		}
	}
}

func badFailsAlone(f *fixture) {
	u := f.users(4)
	departed := account(4)
	departed.Status = im.StatusDeparted
	ids, err := f.s.CreateUsers(f.ctx, []im.Account{departed})
	f.check("CreateUsers", err)
	gone, unknown := ids[0], slices.Max(ids)+1000
	for _, tc := range []struct {
		name string
		bad  *im.Message
	}{
		{"too long", text(u[0], u[2], strings.Repeat("x", im.MaxContent+1))},
		{"not UTF-8", text(u[0], u[2], "\xff")},
		{"client id too long", f.named(u[0], u[2], "x", strings.Repeat("x", im.MaxClientID+1))},
		{"recipient unknown", text(u[0], unknown, "x")},
		{"recipient 0", text(u[0], 0, "x")},
		{"recipient departed", text(u[0], gone, "x")},
		{"to oneself", text(u[0], u[0], "x")},
	} {
		good := []*im.Message{text(u[0], u[1], tc.name), text(u[1], u[0], "after"),
			text(u[0], u[3], "elsewhere")}
		before := len(f.history(u[0], u[1]))
		f.s.AppendMessages(f.ctx, []*im.Message{good[0], tc.bad, good[1], good[2]})
		f.wantKind(tc.name, tc.bad.Err, im.Invalid)
		for i, m := range good {
			if m.Err != nil || m.ID == 0 || m.Duplicate {
				f.Errorf("%s: good message %d: id %d, duplicate %v, %v", tc.name, i, m.ID,
					m.Duplicate, m.Err)
			}
		}
		got := f.history(u[0], u[1])
		if len(got) != before+2 || !sameMessage(got[before], *good[0]) ||
			!sameMessage(got[before+1], *good[1]) {
			f.Errorf("%s: history ends in %+v", tc.name, got[before:])
		}
		f.wantNothing(tc.bad.From, tc.bad.To)
	}
}

func refusedFailsAlone(f *fixture) {
	if f.factory.FailOn == nil {
		f.Skip("the factory has no FailOn")
	}
	u := f.users(4)
	f.factory.FailOn(f.T, f.s, "refused")
	// The rejected message is in the middle of one conversation, the first of another,
	// and the only one of a third.
	batch := []*im.Message{
		text(u[0], u[1], "a1"), f.named(u[0], u[1], "refused", "id"), text(u[1], u[0], "a2"),
		text(u[0], u[2], "refused"), text(u[0], u[2], "b1"),
		text(u[0], u[3], "refused"),
		text(u[0], u[1], "a3"),
	}
	f.s.AppendMessages(f.ctx, batch)
	var a, b []*im.Message
	for i, m := range batch {
		if refused := string(m.Data) == "refused"; refused != (m.Err != nil) {
			f.Fatalf("message %d, %s: error %v", i, m.Data, m.Err)
		} else if refused {
			continue
		}
		if m.Data[0] == 'a' {
			a = append(a, m)
		} else {
			b = append(b, m)
		}
	}
	f.wantHistory(u[0], u[1], a...) // also checks that the ids increase
	f.wantHistory(u[0], u[2], b...)
	f.wantNothing(u[0], u[3])
	for _, tc := range []struct{ user, peer, want uint32 }{{u[1], u[0], 2}, {u[0], u[1], 1},
		{u[2], u[0], 1}, {u[0], u[2], 0}} {
		if got := f.unread(tc.user, tc.peer); got != tc.want {
			f.Errorf("%d has %d unread from %d, want %d", tc.user, got, tc.peer, tc.want)
		}
	}
	// The conversations continue, with ids that no stored message has.
	next := []*im.Message{f.named(u[0], u[1], "a4", "id"), text(u[3], u[0], "c1")}
	f.append(next...)
	f.wantHistory(u[0], u[1], append(a, next[0])...)
	f.wantHistory(u[0], u[3], next[1])
}

func recipientDeparts(f *fixture) {
	a, b := f.pair()
	before := text(a, b, "before")
	f.append(before)
	f.check("SetUserStatus", f.s.SetUserStatus(f.ctx, b, im.StatusDeparted))
	f.advance(time.Minute + time.Second) // the longest time for which a store may cache a user
	m := text(a, b, "after")
	f.s.AppendMessages(f.ctx, []*im.Message{m})
	f.wantKind("message to a user that has departed", m.Err, im.Invalid)
	f.wantHistory(a, b, before)
	f.check("SetUserStatus", f.s.SetUserStatus(f.ctx, b, im.StatusOK))
	f.advance(time.Minute + time.Second)
	back := text(a, b, "back")
	f.append(back)
	f.wantHistory(a, b, before, back)
}

func triedAgain(f *fixture) {
	u := f.users(2)
	m := f.named(u[0], u[0], "to oneself, by mistake", "k")
	m.ID, m.Duplicate = 77, true
	f.s.AppendMessages(f.ctx, []*im.Message{m})
	f.wantKind("to oneself", m.Err, im.Invalid)
	if m.ID != 0 || m.Duplicate {
		f.Errorf("not stored, and yet id %d, duplicate %v", m.ID, m.Duplicate)
	}
	m.To = u[1]
	f.append(m)
	first := m.ID
	f.s.AppendMessages(f.ctx, []*im.Message{m})
	f.wantDuplicate("the very same", m, first)
	f.wantHistory(u[0], u[1], m)
}

func messagesSurvive(f *fixture) {
	u := f.users(3)
	a, b := texts(u[0], u[1], 20), texts(u[2], u[0], 10)
	f.append(append(slices.Clone(a), b...)...)
	f.check("ClearUnread", f.s.ClearUnread(f.ctx, u[0], u[2]))
	f.append(texts(u[2], u[0], 2)...)
	f.reopen()
	f.wantHistory(u[0], u[1], a...)
	if got := len(f.history(u[0], u[2])); got != 12 {
		f.Errorf("%d messages, want 12", got)
	}
	for _, tc := range []struct{ user, peer, want uint32 }{{u[1], u[0], 20}, {u[0], u[1], 0},
		{u[0], u[2], 2}} {
		if got := f.unread(tc.user, tc.peer); got != tc.want {
			f.Errorf("%d has %d unread from %d, want %d", tc.user, got, tc.peer, tc.want)
		}
		if _, ok := f.session(tc.user, tc.peer); !ok {
			f.Errorf("%d has no session with %d", tc.user, tc.peer)
		}
	}
	next := text(u[1], u[0], "next")
	f.append(next)
	if next.ID != 21 {
		f.Errorf("id %d after reopen, want 21", next.ID)
	}
}
