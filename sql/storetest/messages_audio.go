package storetest

import (
	"bytes"
	"math"
	"strings"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// voice returns an audio message created now.
func (f *fixture) voice(from, to uint32, t pb.MsgType, path string) *im.Message {
	return &im.Message{From: from, To: to, Created: f.now(), Type: t, Audio: &im.Audio{Path: path,
		Size: 20_480, Duration: 12}}
}

func audio(f *fixture) {
	u := f.users(3)
	g := f.group(u...)
	const single, group = pb.MsgType_MSG_TYPE_SINGLE_AUDIO, pb.MsgType_MSG_TYPE_GROUP_AUDIO
	first, second := f.voice(u[0], u[1], single, "http://127.0.0.1:8700/g0/000/001/一.spx"),
		f.voice(u[1], u[0], single,
			strings.Repeat("漢", 255))
	toGroup, last := f.voice(u[0], g.ID, group, "g0/2.spx"), f.voice(u[2], g.ID, group, "g0/2.spx")
	// the store does not keep the sound itself
	second.Data = bytes.Repeat([]byte{0xff}, im.MaxAudio)
	second.Audio.Size, second.Audio.Duration = im.MaxAudio, 60
	toGroup.Audio.Size, toGroup.Audio.Duration = math.MaxUint32, 0
	between, inGroup := text(u[0], u[1], "between"), f.groupText(u[1], g.ID, "between")
	f.append(first, toGroup, between, inGroup)
	f.append(second, last)
	for range 2 {
		f.wantHistory(u[0], u[1], first, between, second)
		f.wantGroupHistory(u[1], g.ID, toGroup, inGroup, last)
		f.sync()
		unread, _, err := f.s.UnreadCounts(f.ctx, u[1], 1<<20)
		f.check("UnreadCounts", err)
		// the last message of the group; the answer of the first user
		for _, got := range unread {
			if want := map[pb.SessionType]*im.Message{singleSession: second,
				groupSession: last}[got.Type]; !sameMessage(got.Latest, *want) {
				f.Errorf("latest unread: %+v, want %+v", got.Latest, *want)
			}
		}
		if s, _ := f.sessionOf(u[0], u[1], singleSession); !sameMessage(s.Latest, *second) {
			f.Errorf("session %+v", s)
		}
		if s, _ := f.sessionOf(u[1], g.ID, groupSession); !sameMessage(s.Latest, *last) {
			f.Errorf("session %+v", s)
		}
		got, err := f.s.MessagesByID(f.ctx, u[1], u[0], []uint32{first.ID, second.ID})
		if err != nil || len(got) != 2 || !sameMessage(got[0], *first) ||
			!sameMessage(got[1], *second) {
			f.Errorf("MessagesByID: %+v, %v", got, err)
		}
		got, err = f.s.GroupMessagesByID(f.ctx, u[1], g.ID, []uint32{toGroup.ID})
		if err != nil || len(got) != 1 || !sameMessage(got[0], *toGroup) {
			f.Errorf("GroupMessagesByID: %+v, %v", got, err)
		}
		f.reopen()
	}
}

func audioInvalid(f *fixture) {
	u := f.users(2)
	g := f.group(u...)
	for _, t := range []pb.MsgType{pb.MsgType_MSG_TYPE_SINGLE_AUDIO,
		pb.MsgType_MSG_TYPE_GROUP_AUDIO} {
		to := u[1]
		if t.IsGroup() {
			to = g.ID
		}
		for name, spoil := range map[string]func(*im.Message){
			"no audio":       func(m *im.Message) { m.Audio, m.Data = nil, []byte("42") },
			"path too long":  func(m *im.Message) { m.Audio.Path = strings.Repeat("x", 256) },
			"path not UTF-8": func(m *im.Message) { m.Audio.Path = "\xff" },
			"client id too big": func(m *im.Message) {
				m.ClientID = make([]byte, im.MaxClientID+1)
			},
		} {
			bad := f.voice(u[0], to, t, "x")
			spoil(bad)
			good := f.voice(u[0], to, t, "y")
			f.s.AppendMessages(f.ctx, []*im.Message{bad, good})
			f.wantKind(name, bad.Err, im.Invalid)
			if good.Err != nil {
				f.Errorf("%s: the next one: %v", name, good.Err)
			}
		}
	}
	if got := len(f.history(u[0], u[1])) + len(f.groupHistory(u[0], g.ID)); got != 8 {
		f.Errorf("%d messages, want 8", got)
	}
}
