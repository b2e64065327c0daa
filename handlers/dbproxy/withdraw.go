package dbproxy

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// A db_proxy whose store fails withdraws: it asks the other servers for no more requests,
// so that they use the other db_proxies. It returns when its store works again. Servers
// that do not understand a withdrawal are told that this server stops, as the first
// implementation did, and their links are closed on return, so that they connect again.
//
// A db_proxy that is ordered to drain withdraws in the same way, until it is ordered to serve
// again.
//
// A request that arrives meanwhile is served as far as the store allows it. Servers that
// understand a withdrawal send requests only while every db_proxy has withdrawn.

// The store is looked at when it failed a request, and then every checkEvery until it
// works.
const (
	checkEvery   = 200 * time.Millisecond
	checkTimeout = 2 * time.Second
)

// storeFailed makes Watch look at the store. Any goroutine.
func (r *runner) storeFailed() {
	select {
	case r.suspect <- struct{}{}:
	default: // it will look
	}
}

// suspects makes Watch look at the store if err may be its failure.
func (r *runner) suspects(err error) {
	if im.KindOf(err) == im.Unavailable || im.KindOf(err) == im.Internal {
		r.storeFailed()
	}
}

// Watch withdraws this server while its store fails. ping reports whether the store can be
// read and written; it is called after a request failed, and then every checkEvery until
// it succeeds. Watch returns when ctx ends or Drain is called.
func (s *Server) Watch(ctx context.Context, ping func(context.Context) error) {
	away := false
	for {
		if !away && !s.awaitEither(ctx, s.requests.suspect, nil) {
			return
		}
		switch err := check(ctx, ping); {
		case ctx.Err() != nil:
			return
		case err != nil && !away:
			s.withdraw(err)
			away = true
		case err == nil && away:
			s.comeBack()
			away = false
		}
		if !s.awaitEither(ctx, nil, time.After(checkEvery)) { // not more often, however many fail
			return
		}
	}
}

// awaitEither waits for a suspicion or a time. It returns false when Watch ends.
func (s *Server) awaitEither(ctx context.Context, suspect <-chan struct{},
	at <-chan time.Time) bool {
	select {
	case <-suspect:
	case <-at:
	case <-s.requests.stopped:
		return false
	case <-ctx.Done():
		return false
	}
	return true
}

// check looks at the store.
func check(ctx context.Context, ping func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return ping(ctx)
}

func withdrawal() *pb.IMStopReceivePacket {
	return pb.IMStopReceivePacket_builder{Result: proto.Uint32(0),
		MayReturn: proto.Bool(true)}.Build()
}

// withdraw withdraws this server because its store fails.
func (s *Server) withdraw(err error) {
	s.log.Error("the store fails", "role", "dbproxy", "err", err)
	s.setWithdrawn(func() { s.failing = true })
}

// comeBack ends what withdraw began.
func (s *Server) comeBack() {
	s.log.Info("the store works again", "role", "dbproxy")
	s.setWithdrawn(func() { s.failing = false })
}

// SetDraining withdraws this server, or lets it return. While its store fails it does not
// return. Any goroutine.
func (s *Server) SetDraining(on bool) { s.setWithdrawn(func() { s.draining = on }) }

// setWithdrawn changes the reasons for which this server withdraws, and tells the other servers
// when the first one has come or the last one is gone.
func (s *Server) setWithdrawn(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.isWithdrawn()
	change()
	switch after := s.isWithdrawn(); {
	case after && !before:
		s.tellWithdrawn()
	case before && !after:
		s.tellReturned()
	}
}

// isWithdrawn reports whether the other servers are asked for no requests. With mu held.
func (s *Server) isWithdrawn() bool { return s.failing || s.draining }

// tellWithdrawn asks the other servers for no more requests. With mu held.
func (s *Server) tellWithdrawn() {
	s.requests.metrics.withdrawn.Set(1)
	for l := range s.sessions {
		if takesRefusals(l) {
			s.tell(l, withdrawal())
			continue
		}
		if st, ok := l.Data.(*linkState); ok {
			st.left = true
		}
		s.tell(l, pb.IMStopReceivePacket_builder{Result: proto.Uint32(0)}.Build())
	}
	s.log.Info("withdrawn: other db_proxies get the requests", "role", "dbproxy", "links",
		len(s.sessions))
}

// tellReturned tells the other servers that this one takes requests again. With mu held.
func (s *Server) tellReturned() {
	s.requests.metrics.withdrawn.Set(0)
	for l := range s.sessions {
		if st, ok := l.Data.(*linkState); ok && st.left {
			l.Close(errReturned) // they connect again
			continue
		}
		if takesRefusals(l) {
			s.tell(l, pb.IMStopReceivePacket_builder{Result: proto.Uint32(0),
				Returned: proto.Bool(true)}.Build())
		}
	}
	s.log.Info("returned", "role", "dbproxy", "links", len(s.sessions))
}

// errReturned closes the links of servers that understand no return.
var errReturned = im.Errorf(im.Unavailable, "this db_proxy takes requests again")

// tell sends m on a link. The caller holds s.mu.
func (s *Server) tell(l *session.Link, m *pb.IMStopReceivePacket) {
	if err := l.Send(0, m); err != nil {
		s.log.Debug("stop request not sent", "role", "dbproxy", "conn", l.ID(), "err", err)
	}
}
