package dbproxy_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"teamtalk/core/session"
	"teamtalk/handlers/dbproxy"
	"teamtalk/pool"
	"teamtalk/proto/pb"
	"teamtalk/sql/embedded"
)

// told is the carrier of a link that passes answers to a channel.
type told chan pb.Message

func (c told) SendMessage(_ uint16, m pb.Message) error { c <- m; return nil }
func (told) Close(error)                                {}

// TestLoginsPastFullQueues: users whose requests fill their queues do not keep others
// from logging in, although the logins of a quarter of all names are looked up together.
func TestLoginsPastFullQueues(t *testing.T) {
	store, err := embedded.Open(t.Context(), embedded.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	const names = 40
	addUsers(t, store, names)
	p := pool.New(pool.Options{Workers: 8, StrandQueue: 1})
	s := newServer(dbproxy.Options{Store: store, Tasks: p, Timeout: time.Minute})
	release := make(chan struct{})
	for key := range uint64(4) { // the number of login shards
		began := make(chan struct{})
		if err := p.Do(key, func(context.Context) { close(began); <-release }); err != nil {
			t.Fatal(err)
		}
		<-began
		if err := p.Do(key, func(context.Context) {}); err != nil {
			t.Fatal(err)
		}
	}
	answers := make(told, names)
	link := session.NewLink(session.NextID(), "msg", answers)
	for i := range names {
		s.Message(link, uint16(i), validateReq(fmt.Sprintf("u%05d", i+1), "pw"))
	}
	for range names {
		if rsp := (<-answers).(*pb.IMValidateRsp); rsp.GetResultCode() != 0 {
			t.Errorf("%s: %d %s", rsp.GetUserName(), rsp.GetResultCode(), rsp.GetResultString())
		}
	}
	close(release)
	if err := s.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
