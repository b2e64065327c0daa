package storetest

import (
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// resendWindow is the time in which the tests here recognise a message, in seconds.
const resendWindow = 60

// numbered returns a text message created now, that an Android client sent with a seq.
func (f *fixture) numbered(from, to uint32, body string, seq uint16) *im.Message {
	m := text(from, to, body)
	m.Created, m.SentAs = f.now(), pb.SentAs(pb.ClientType_CLIENT_TYPE_ANDROID, seq)
	return m
}

// resent returns m as its client sends it again on a new connection, some seconds later.
func resent(m *im.Message, later uint32) *im.Message {
	return &im.Message{From: m.From, To: m.To, Created: m.Created + later, Type: m.Type,
		Data: m.Data, Audio: m.Audio, SentAs: m.SentAs, ResentWithin: resendWindow}
}

// wantResent stores m again and checks that it is recognised.
func (f *fixture) wantResent(what string, s im.MessageStore, m *im.Message, later uint32) {
	f.Helper()
	again := resent(m, later)
	s.AppendMessages(f.ctx, []*im.Message{again})
	f.wantDuplicate(what, again, m.ID)
	f.wantFirst(what, again, m)
}

func resentLater(f *fixture) {
	a, b := f.pair()
	first, other := f.numbered(a, b, "text", 7), f.numbered(b, a, "text", 7)
	other.Created++
	f.append(text(a, b, "before"), first, other)
	f.wantResent("at once", f.s, first, 0)
	f.wantResent("of the other user", f.s, other, 1)
	f.wantResent("within the time", f.s, first, resendWindow)
	f.reopen()
	f.wantResent("after reopen", f.s, first, 5)
	mixed := []*im.Message{resent(first, 6), f.numbered(a, b, "third", 8)}
	f.s.AppendMessages(f.ctx, mixed)
	f.wantDuplicate("beside a new message", mixed[0], first.ID)
	if mixed[1].Err != nil || mixed[1].ID <= other.ID {
		f.Errorf("the new message: id %d, %v", mixed[1].ID, mixed[1].Err)
	}
	if n := f.unread(b, a); n != 3 {
		f.Errorf("%d unread, want 3: a duplicate is not counted", n)
	}
	if got := len(f.history(a, b)); got != 4 {
		f.Errorf("%d messages, want 4", got)
	}
}

func resentSameBatch(f *fixture) {
	a, b := f.pair()
	first := f.numbered(a, b, "first", 7)
	batch := []*im.Message{first, text(b, a, "between"), resent(first, 1), resent(first, 2)}
	f.s.AppendMessages(f.ctx, batch)
	f.wantDuplicate("resent at once", batch[2], first.ID)
	f.wantDuplicate("resent again", batch[3], first.ID)
	f.wantFirst("resent again", batch[3], first)
	f.wantHistory(a, b, first, batch[1])
	// Without word of a new connection the client means two messages.
	same := []*im.Message{f.numbered(a, b, "same", 9), f.numbered(a, b, "same", 9)}
	f.append(same...)
	if same[0].Duplicate || same[1].Duplicate {
		f.Error("a message of the same connection is taken as sent before")
	}
}

func resentDiffers(f *fixture) {
	u := f.users(3)
	first := f.numbered(u[0], u[1], "Text", 7)
	same := resent(first, 0)
	same.ResentWithin = 0 // no new connection
	f.append(first, same)
	if same.Duplicate {
		f.Error("a message of the same connection is taken as sent before")
	}
	for what, change := range map[string]func(m *im.Message){
		"another seq":       func(m *im.Message) { m.SentAs++ },
		"another device":    func(m *im.Message) { m.SentAs ^= 1 << 16 },
		"no number":         func(m *im.Message) { m.SentAs = 0 },
		"another recipient": func(m *im.Message) { m.To = u[2] },
		"another sender":    func(m *im.Message) { m.From, m.To = u[1], u[0] },
		"another content":   func(m *im.Message) { m.Data = []byte("text") },
		"a blank more":      func(m *im.Message) { m.Data = []byte("Text ") },
		"too late":          func(m *im.Message) { m.Created += resendWindow + 10 },
		"a client_msg_id":   func(m *im.Message) { m.ClientID = []byte("id") },
	} {
		m := resent(first, 0)
		change(m)
		f.append(m)
		if m.Duplicate {
			f.Errorf("%s: taken as sent before", what)
		}
	}
	f.wantResent("the first one", f.s, first, 1)
}

func resentKinds(f *fixture) {
	u := f.users(2)
	g := f.group(u...)
	f.append(text(u[0], u[1], "so that the relation exists"))
	toGroup := f.numbered(u[0], g.ID, "text", 7)
	toGroup.Type = pb.MsgType_MSG_TYPE_GROUP_TEXT
	sound := f.voice(u[0], u[1], pb.MsgType_MSG_TYPE_SINGLE_AUDIO, "g0/1.spx")
	toAll := f.voice(u[0], g.ID, pb.MsgType_MSG_TYPE_GROUP_AUDIO, "g0/2.spx")
	sound.SentAs, toAll.SentAs = toGroup.SentAs+1, toGroup.SentAs+2
	f.append(toGroup, sound, toAll)
	for what, m := range map[string]*im.Message{"group": toGroup, "sound": sound,
		"sound in a group": toAll} {
		f.wantResent(what, f.s, m, 1)
	}
	longer := resent(sound, 1)
	longer.Audio = &im.Audio{Path: "g0/3.spx", Size: sound.Audio.Size + 1,
		Duration: sound.Audio.Duration}
	f.append(longer)
	if longer.Duplicate {
		f.Error("another sound is taken as sent before")
	}
	f.wantGroupHistory(u[1], g.ID, toGroup, toAll)
}

func resentElsewhere(f *fixture) {
	a, b := f.pair()
	second := f.second()
	first := f.numbered(a, b, "text", 7)
	f.append(first)
	f.wantResent("to another process", second, first, 1)
}
