package dbproxy_test

import (
	"context"
	"testing"

	"teamtalk/core/session"
	"teamtalk/handlers/dbproxy"
	"teamtalk/proto/pb"
)

// inline is Tasks that runs each task at once, and drops panics as the pool does.
type inline struct{}

func (inline) Do(_ uint64, task func(ctx context.Context)) error {
	defer func() { _ = recover() }()
	task(context.Background())
	return nil
}

// keys is Messages that records the keys by which messages are ordered.
type keys []uint64

func (k *keys) Add(key uint64, _ *dbproxy.Pending) error {
	*k = append(*k, key)
	return nil
}

// TestKeys: messages of one conversation have the same key, for both users or all members
// of a group, and other conversations have other keys.
func TestKeys(t *testing.T) {
	k := &keys{}
	s := newServer(dbproxy.Options{Tasks: inline{}, Messages: k})
	link := session.NewLink(session.NextID(), "msg", &answers{})
	for _, m := range []*pb.MsgData{text(1, 2, "x"), text(2, 1, "x"), groupText(1, 2, "x"),
		groupText(3, 2, "x"), text(3, 2, "x"), groupText(3, 1, "x")} {
		s.Message(link, 1, m)
	}
	names, got := map[uint64]rune{}, ""
	for _, key := range *k {
		if names[key] == 0 {
			names[key] = 'a' + rune(len(names))
		}
		got += string(names[key])
	}
	if got != "aabbcd" {
		t.Errorf("keys %s, want aabbcd", got)
	}
}

// answers is the carrier of a link that records the last answer.
type answers struct{ last pb.Message }

func (a *answers) SendMessage(_ uint16, m pb.Message) error { a.last = m; return nil }
func (a *answers) Close(error)                              {}

// fetchAll requests the messages between users 1 and 2 without a socket; nil when there
// is no answer.
func fetchAll(t *testing.T, s *dbproxy.Server) *pb.IMGetMsgListRsp {
	t.Helper()
	a := &answers{}
	s.Message(session.NewLink(session.NextID(), "msg", a), 1, listReq(single, 0, 100))
	rsp, _ := a.last.(*pb.IMGetMsgListRsp)
	return rsp
}

// fetch returns the body of one of these messages.
func fetch(t *testing.T, s *dbproxy.Server, id uint32) []byte {
	t.Helper()
	for _, m := range fetchAll(t, s).GetMsgList() {
		if m.GetMsgId() == id {
			return m.GetMsgData()
		}
	}
	t.Fatalf("no message %d", id)
	return nil
}
