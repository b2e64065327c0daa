package push

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/core/notify"
	"teamtalk/core/opt/opttest"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// phones is a push service whose answers the test chooses.
type phones struct {
	mu     sync.Mutex
	got    []notify.Notification
	at     []time.Time
	answer func(n notify.Notification, try int) notify.Result
}

func (p *phones) Send(ctx context.Context, n notify.Notification) notify.Result {
	p.mu.Lock()
	p.got = append(p.got, n)
	p.at = append(p.at, time.Now())
	try := 0
	for _, o := range p.got {
		if o.Token == n.Token {
			try++
		}
	}
	p.mu.Unlock()
	if p.answer == nil {
		return notify.Result{}
	}
	if n.Token == "hangs" {
		<-ctx.Done()
		return notify.Result{Outcome: notify.Later, Reason: "timeout"}
	}
	return p.answer(n, try)
}

// peer is the message server's end of a link.
type peer struct {
	*session.Link
	answers chan *pb.IMPushToUserRsp
	seqs    chan uint16
}

func (p *peer) SendMessage(seq uint16, m pb.Message) error {
	p.seqs <- seq
	p.answers <- m.(*pb.IMPushToUserRsp)
	return nil
}

func (p *peer) Close(error) {}

func newPeer() *peer {
	p := &peer{answers: make(chan *pb.IMPushToUserRsp, 100), seqs: make(chan uint16, 100)}
	p.Link = session.NewLink(session.NextID(), "msg", p)
	return p
}

func push(tokens ...*pb.UserTokenInfo) *pb.IMPushToUserReq {
	m := &pb.IMPushToUserReq{}
	m.SetFlash("你好")
	m.SetData(`{"msg_type":1}`)
	m.SetUserTokenList(tokens)
	return m
}

func phone(user uint32, client pb.ClientType, token string, badge, kind uint32) *pb.UserTokenInfo {
	t := &pb.UserTokenInfo{}
	t.SetUserId(user)
	t.SetUserType(client)
	t.SetToken(token)
	t.SetPushCount(badge)
	t.SetPushType(kind)
	return t
}

func ios(token string) *pb.UserTokenInfo {
	return phone(7, pb.ClientType_CLIENT_TYPE_IOS, token, 1, 1)
}

// results formats an answer as text.
func results(m *pb.IMPushToUserRsp) string {
	var list []string
	for _, r := range m.GetPushResultList() {
		s := fmt.Sprintf("%s=%d", r.GetUserToken(), r.GetResultCode())
		if r.HasUserId() {
			s += fmt.Sprintf(" of %d", r.GetUserId())
		}
		list = append(list, s)
	}
	return fmt.Sprint(list)
}

// TestPush: each notification reaches the service of its phone, with all its fields.
func TestPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		apple, google, p := &phones{}, &phones{}, newPeer()
		s := newServer(Options{IOS: apple, Android: google})
		s.Message(p.Link, 5, push(phone(7, pb.ClientType_CLIENT_TYPE_IOS, "i", 3, 1),
			phone(8, pb.ClientType_CLIENT_TYPE_ANDROID, "a", 0, 2)))
		if got, seq := results(<-p.answers), <-p.seqs; got != "[i=0 a=0]" || seq != 5 {
			t.Errorf("answer %s with seq %d", got, seq)
		}
		wantApple := notify.Notification{Client: pb.ClientType_CLIENT_TYPE_IOS, Token: "i",
			Text: "你好", Data: `{"msg_type":1}`, Badge: 3}
		wantGoogle := notify.Notification{Client: pb.ClientType_CLIENT_TYPE_ANDROID, Token: "a",
			Text: "你好", Data: `{"msg_type":1}`, Silent: true}
		if !slices.Equal(apple.got, []notify.Notification{wantApple}) ||
			!slices.Equal(google.got, []notify.Notification{wantGoogle}) {
			t.Errorf("apple %+v, google %+v", apple.got, google.got)
		}
		if err := s.Drain(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestOutcomes: a notification is retried when the service answers Later. Every outcome
// is reported.
func TestOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		apple, p := &phones{}, newPeer()
		apple.answer = func(n notify.Notification, try int) notify.Result {
			switch n.Token {
			case "dead":
				return notify.Result{Outcome: notify.Dead, Reason: "Unregistered"}
			case "refused":
				return notify.Result{Outcome: notify.Refused, Reason: "BadTopic"}
			case "third":
				if try < 3 {
					return notify.Result{Outcome: notify.Later}
				}
				return notify.Result{}
			case "panics":
				panic("bad notification")
			}
			return notify.Result{Outcome: notify.Later}
		}
		s := newServer(Options{IOS: apple, Attempts: 4})
		s.Message(p.Link, 1, push(ios("dead"), ios("refused"), ios("third"), ios("never"),
			ios("panics"), ios("hangs")))
		if got := results(<-p.answers); got != "[dead=2 of 7 refused=1 third=0 never=1 panics=1 "+
			"hangs=1]" {
			t.Errorf("answer %s", got)
		}
		tries := map[string]int{}
		for _, n := range apple.got {
			tries[n.Token]++
		}
		if fmt.Sprint(tries) != "map[dead:1 hangs:4 never:4 panics:1 refused:1 third:3]" {
			t.Errorf("tries: %v", tries)
		}
		if err := s.Drain(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestServiceWantsRest: when a service names a time to wait, no notification is sent to
// it before. The other service is not affected.
func TestServiceWantsRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		apple, google, p := &phones{}, &phones{}, newPeer()
		apple.answer = func(_ notify.Notification, try int) notify.Result {
			if try == 1 {
				return notify.Result{Outcome: notify.Later, After: 42 * time.Second}
			}
			return notify.Result{}
		}
		s := newServer(Options{IOS: apple, Android: google})
		began := time.Now()
		s.Message(p.Link, 1, push(ios("one")))
		synctest.Wait()
		apple.mu.Lock()
		apple.answer = nil
		apple.mu.Unlock()
		s.Message(p.Link, 2, push(ios("two")))
		s.Message(p.Link, 3, push(phone(8, pb.ClientType_CLIENT_TYPE_ANDROID, "a", 1, 1)))
		if got := results(<-p.answers); got != "[a=0]" || time.Since(began) != 0 {
			t.Errorf("the other service: %s after %s", got, time.Since(began))
		}
		<-p.answers
		<-p.answers
		if len(apple.at) != 3 || apple.at[1].Sub(began) < 42*time.Second ||
			apple.at[2].Sub(began) < 42*time.Second {
			t.Errorf("tried at %v, began at %v", apple.at, began)
		}
		if err := s.Drain(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestBounds: a push beyond the limit of the queue fails at once. Drain gives up when its
// context ends.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		apple, p := &phones{}, newPeer()
		apple.answer = func(notify.Notification,
			int) notify.Result {
			return notify.Result{Outcome: notify.Later}
		}
		s := newServer(Options{IOS: apple, Queue: 2, Workers: 1})
		s.Message(p.Link, 1, push(ios("hangs"), ios("b"), ios("c")))
		s.Message(p.Link, 2, push(ios("d")))
		if got, seq := results(<-p.answers), <-p.seqs; got != "[d=1]" || seq != 2 {
			t.Errorf("beyond the queue: %s, seq %d", got, seq)
		}
		s.Message(p.Link, 3, push())
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.Drain(ctx); im.KindOf(err) != im.Closed {
			t.Errorf("Drain with a push that hangs: %v", err)
		}
		s.Message(p.Link, 4, push(ios("e")))
		for seq := range p.seqs {
			if seq == 4 {
				break
			}
		}
		synctest.Wait()
	})
}

// TestDrain: Drain sends the accepted notifications before it returns.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		apple, p := &phones{}, newPeer()
		apple.answer = func(_ notify.Notification, try int) notify.Result {
			if try == 1 {
				return notify.Result{Outcome: notify.Later}
			}
			return notify.Result{}
		}
		s := newServer(Options{IOS: apple})
		s.Message(p.Link, 1, push(ios("a"), ios("b")))
		if err := s.Drain(context.Background()); err != nil {
			t.Error(err)
		}
		if got := results(<-p.answers); got != "[a=0 b=0]" {
			t.Errorf("answer %s", got)
		}
	})
}

// newServer returns a server with the defaults of the settings where opt has no value, and long
// limits of time.
func newServer(opt Options) *Server {
	c := config.Default()
	return New(opttest.Fill(opt, Options{
		Queue: c.Push.Queue, Workers: c.Push.Workers, Attempts: c.Push.Attempts,
		LinkTimeout: patience, LinkHeartbeat: patience,
	}))
}
