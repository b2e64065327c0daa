package dbproxy_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/sound"
	"teamtalk/handlers/dbproxy"
	"teamtalk/pool"
	"teamtalk/proto/pb"
)

// soundHook is a Store that calls a hook before each call, and counts the calls of Get.
type soundHook struct {
	sound.Store
	mu       sync.Mutex
	put, get func(ctx context.Context) error
	gets     int
}

func (f *soundHook) Put(ctx context.Context, name string, data []byte) (string, error) {
	f.mu.Lock()
	hook := f.put
	f.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return "", err
		}
	}
	return f.Store.Put(ctx, name, data)
}

func (f *soundHook) Get(ctx context.Context, url string) ([]byte, error) {
	f.mu.Lock()
	hook := f.get
	f.gets++
	f.mu.Unlock()
	if hook != nil {
		if err := hook(ctx); err != nil {
			return nil, err
		}
	}
	return f.Store.Get(ctx, url)
}

func (f *soundHook) set(put, get func(ctx context.Context) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.put, f.get = put, get
}

// audioMessage returns an audio message with these seconds and bytes.
func audioMessage(from, to, seconds uint32, size int) *pb.MsgData {
	m := text(from, to, "")
	m.Type = pb.MsgType_MSG_TYPE_SINGLE_AUDIO
	m.Data = append(binary.BigEndian.AppendUint32(nil, seconds),
		bytes.Repeat([]byte{0xfe}, size)...)
	return m
}

// TestAudio: sounds are stored as files and returned in messages, for users and groups.
func TestAudio(t *testing.T) {
	sounds := &soundHook{Store: newSounds(t)}
	h := open(t, options{db: dbproxy.Options{Sounds: sounds}})
	p := h.dial()
	g := makeGroup(p, 1, temporary, 1, 2)
	toGroup := func(m *pb.MsgData) *pb.MsgData {
		m.Type, m.CreateTime = pb.MsgType_MSG_TYPE_GROUP_AUDIO, uint32(time.Now().Unix()+60)
		return m
	}
	for i, test := range []struct {
		name string
		m    *pb.MsgData
		id   uint32
	}{
		{"one byte", audioMessage(1, 2, 3, 1), 1},
		{"the longest", audioMessage(1, 2, 60, im.MaxAudio), 2},
		{"a text between", text(1, 2, "t"), 3},
		{"in a group", toGroup(audioMessage(1, g, 7, 1000)), 1},
		{"four billion seconds", audioMessage(2, 1, 1<<32-1, 10), 4},
		{"too long", audioMessage(1, 2, 60, im.MaxAudio+1), 0},
		{"no sound", audioMessage(1, 2, 60, 0), 0},
		{"no duration", &pb.MsgData{FromUserID: 1, ToSessionID: 2,
			Type: pb.MsgType_MSG_TYPE_SINGLE_AUDIO, Data: []byte("abc")}, 0},
		{"not a member", toGroup(audioMessage(3, g, 7, 1000)), 0},
		{"after failures", text(1, 2, "t"), 5},
	} {
		rsp := ask[*pb.MsgData](p, uint16(i), test.m)
		if rsp.MsgID != test.id || !bytes.Equal(rsp.Data, test.m.Data) || rsp.Type != test.m.Type {
			t.Errorf("%s: id %d, want %d; %d bytes of type %v", test.name, rsp.MsgID, test.id,
				len(rsp.Data), rsp.Type)
		}
	}
	list := ask[*pb.IMGetMsgListRsp](p, 20, listReq(single, 0, 100)).GetMsgList()
	if len(list) != 5 {
		t.Fatalf("%d messages", len(list))
	}
	for i, want := range [][]byte{[]byte("t"), audioMessage(2, 1, 1<<32-1, 10).Data, []byte("t"),
		audioMessage(1, 2, 60, im.MaxAudio).Data, audioMessage(1, 2, 3, 1).Data} {
		if m := list[i]; m.GetMsgId() != uint32(5-i) || !bytes.Equal(m.GetMsgData(), want) {
			t.Errorf("message %d has %d bytes of type %v", m.GetMsgId(), len(m.GetMsgData()),
				m.GetMsgType())
		}
	}
	byID := ask[*pb.IMGetMsgByIdRsp](p, 21, pb.IMGetMsgByIdReq_builder{UserId: proto.Uint32(2),
		SessionType: group.Enum(), SessionId: &g, MsgIdList: []uint32{1}}.Build())
	if l := byID.GetMsgList(); len(l) != 1 ||
		!bytes.Equal(l[0].GetMsgData(), audioMessage(1, g, 7, 1000).Data) ||
		l[0].GetMsgType() != pb.MsgType_MSG_TYPE_GROUP_AUDIO {
		t.Errorf("by id: %v", l)
	}
	if sounds.gets != 0 {
		t.Errorf("%d sounds were read although they were just written", sounds.gets)
	}
}

// TestAudioPreview: in lists of conversations a text replaces a sound, encrypted as
// clients expect it.
func TestAudioPreview(t *testing.T) {
	const key = "abcdefghijklmnopqrstuvwxyz012345"
	cipher, err := im.NewTextCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	h := open(t, options{db: dbproxy.Options{Sounds: newSounds(t), Text: cipher}})
	p := h.dial()
	ask[*pb.MsgData](p, 1, audioMessage(1, 2, 3, 100))
	check := func(body []byte, typ pb.MsgType) {
		t.Helper()
		if s, err := cipher.Decrypt(body); err != nil || s != "[语音]" ||
			typ != pb.MsgType_MSG_TYPE_SINGLE_AUDIO {
			t.Errorf("%q of type %v, %v", s, typ, err)
		}
	}
	unread := ask[*pb.IMUnreadMsgCntRsp](p, 2, unreadOf(2)).GetUnreadinfoList()[0]
	check(unread.GetLatestMsgData(), unread.GetLatestMsgType())
	req := pb.IMRecentContactSessionReq_builder{UserId: proto.Uint32(1),
		LatestUpdateTime: proto.Uint32(0)}.Build()
	recent := ask[*pb.IMRecentContactSessionRsp](p, 3, req).GetContactSessionList()[0]
	check(recent.GetLatestMsgData(), recent.GetLatestMsgType())
}

// TestAudioOrder: texts and sounds in one conversation keep their order, also when
// storing a sound is slow.
func TestAudioOrder(t *testing.T) {
	sounds := &soundHook{Store: newSounds(t)}
	h := open(t, options{db: dbproxy.Options{Sounds: sounds}})
	reached, goOn := make(chan struct{}, 100), make(chan struct{})
	sounds.set(func(context.Context) error { reached <- struct{}{}; <-goOn; return nil }, nil)
	p := h.dial()
	for i := range 20 {
		if i%2 == 0 {
			p.send(uint16(i), audioMessage(1, 2, uint32(i), 10))
		} else {
			p.send(uint16(i), text(1, 2, fmt.Sprint(i)))
		}
	}
	<-reached
	close(goOn)
	for i := range 20 {
		if m := answer[*pb.MsgData](p, uint16(i)); m.MsgID != uint32(i+1) {
			t.Errorf("message %d has id %d", i, m.MsgID)
		}
	}
}

// TestAudioFailures: when a sound cannot be stored, only its message fails. When a sound
// cannot be read, its message is returned without it.
func TestAudioFailures(t *testing.T) {
	sounds := &soundHook{Store: newSounds(t)}
	h := open(t, options{db: dbproxy.Options{Sounds: sounds, Timeout: 4 * time.Second},
		pool: pool.Options{Workers: 1, BatchWorkers: 1}})
	p := h.dial()
	for _, test := range []struct {
		name string
		hook func(context.Context) error
	}{
		{"unavailable", func(context.Context) error { return im.Errorf(im.Unavailable, "away") }},
		{"internal", func(context.Context) error { return errors.New("broken") }},
		// It blocks for a quarter of Timeout.
		{"stuck", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
		// The texts must not wait again.
		{"after that", func(context.Context) error { t.Error("tried again at once"); return nil }},
	} {
		name := test.name
		sounds.set(test.hook, nil)
		p.send(1, audioMessage(1, 2, 3, 10))
		p.send(2, text(1, 2, name))
		if m := answer[*pb.MsgData](p, 1); m.MsgID != 0 {
			t.Errorf("%s: id %d without a sound", name, m.MsgID)
		}
		if m := answer[*pb.MsgData](p, 2); m.MsgID == 0 {
			t.Errorf("%s: the text beside it was not stored", name)
		}
	}
	sounds.set(nil, nil)
	h.clock.Add(10 * time.Second)
	if m := ask[*pb.MsgData](p, 3, audioMessage(1, 2, 3, 10)); m.MsgID != 5 {
		t.Errorf("afterwards: id %d", m.MsgID)
	}

	// A db_proxy that has not cached the sound, and cannot read it.
	second := &soundHook{Store: sounds.Store}
	h2 := newServer(dbproxy.Options{Store: h.store, Tasks: inline{}, Sounds: second})
	second.set(nil, func(context.Context) error { return im.Errorf(im.NotFound, "gone") })
	if got := fetch(t, h2, 5); len(got) != 0 {
		t.Errorf("%d bytes of a deleted sound", len(got))
	}
	second.set(nil, func(context.Context) error { panic("test") })
	if rsp := fetchAll(t, h2); rsp != nil {
		t.Errorf("an answer after a panic: %v", rsp)
	}
	second.set(nil, nil)
	for range 3 {
		if got := fetch(t, h2, 5); !bytes.Equal(got, audioMessage(1, 2, 3, 10).Data) {
			t.Errorf("%d bytes", len(got))
		}
	}
	if second.gets != 3 { // deleted, panic, and one successful read
		t.Errorf("read %d times", second.gets)
	}
	// Without Sounds.
	if got := fetch(t, newServer(dbproxy.Options{Store: h.store, Tasks: inline{}}),
		5); len(got) != 0 {
		t.Errorf("%d bytes without a store for sounds", len(got))
	}
}
