package mesh

import (
	"context"
	"iter"
	"slices"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/backoff"
	"teamtalk/core/session"
	"teamtalk/handlers/mesh/outgoing"
	"teamtalk/proto/pb"
)

// changes is what the other message servers are told of users: their status, whether their phones
// show a PC, signatures and pictures. A change alone is a dozen bytes, and every message server
// gets it. So changes are collected for Options.Window, and each message server gets those of a
// window in one message, which is encoded once. A later change of the same subject replaces an
// earlier one. With Server.mu held.
type changes struct {
	*Server
	wake  chan struct{} // holds one token when there is something to send
	list  []*pb.UserChange
	at    map[subject]int // places in list
	bytes int             // of list
	most  int             // changes in list; maxChanges, fewer in tests
	// behind are the message servers that may have missed changes.
	behind map[*outgoing.Peer]struct{}
}

// subject is what a change is about.
type subject struct {
	user uint32
	kind changeKind
}

// changeKind is a field of pb.UserChange.
type changeKind uint8

const (
	noChange changeKind = iota // of a later version of this program
	statusChange
	pcChange // a phone that comes elsewhere is later news for the phones alone
	signChange
	avatarChange
)

func subjectOf(c *pb.UserChange) subject {
	k := noChange
	switch {
	case c.HasStatus():
		k = statusChange
	case c.HasPcOnline():
		k = pcChange
	case c.HasSignInfo():
		k = signChange
	case c.HasAvatarUrl():
		k = avatarChange
	}
	return subject{c.GetUserId(), k}
}

const (
	// maxChanges and maxChangeBytes bound the changes that wait. The others are dropped and
	// counted: the clients of the other message servers see the old state until they ask.
	maxChanges     = 1 << 17
	maxChangeBytes = 8 << 20
	// maxChangesFrame is the size above which changes are sent in several messages.
	maxChangesFrame = 128 << 10
)

// add makes the other message servers be told of a change, which is not modified any more. The
// caller holds s.mu.
func (s *changes) add(c *pb.UserChange) {
	s.metrics.changes.Inc()
	key, size := subjectOf(c), proto.Size(c)
	i, again := s.at[key]
	switch {
	case again:
		s.metrics.merged.Inc()
		s.bytes += size - proto.Size(s.list[i])
		s.list[i] = c
		return
	case len(s.list) >= s.most || s.bytes >= maxChangeBytes:
		s.metrics.drops.WithLabelValues("changes_full").Inc()
		return
	}
	if s.at == nil {
		s.at = map[subject]int{}
	}
	s.at[key] = len(s.list)
	s.list, s.bytes = append(s.list, c), s.bytes+size
	if len(s.list) == 1 {
		wake(s.changes.wake)
	}
}

// send sends the changes of each window until ctx ends.
func (s *changes) send(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.changes.wake:
		}
		if s.opt.Window > 0 {
			_ = backoff.Sleep(ctx, s.opt.Window) // the rest is sent when Run ends
		}
		s.opt.Turn.Wait("changes")
		s.changes.flush()
	}
}

// flush sends what was collected.
func (s *changes) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.changes
	list := c.list
	c.list, c.at, c.bytes = nil, nil, 0
	for m := range s.changes.frames(list, false) {
		s.links.Spread(m)
	}
	if len(c.behind) == 0 {
		return
	}
	behind := c.behind
	c.behind = nil
	for m := range s.changes.frames(s.status.here(), true) {
		for p := range behind {
			p.Send(m)
		}
	}
}

// catchUp makes a message server that may have missed changes be told again which users have a PC
// here. It learns from the store which ones have none any more, see doubt.
func (s *changes) catchUp(p *outgoing.Peer) {
	if s.behind == nil {
		s.behind = map[*outgoing.Peer]struct{}{}
	}
	s.behind[p] = struct{}{}
	wake(s.changes.wake)
}

// frames encodes changes as messages of a bounded size. again says that they were sent before.
func (s *changes) frames(list []*pb.UserChange, again bool) iter.Seq[*pb.Encoded] {
	return func(yield func(*pb.Encoded) bool) {
		for len(list) > 0 {
			n, bytes := 0, 0
			for ; n < len(list) && bytes < maxChangesFrame; n++ {
				bytes += proto.Size(list[n]) + 4 // of a tag and a length
			}
			frame := pb.IMUserChangesNotify_builder{Changes: list[:n]}.Build()
			if again {
				frame.SetAgain(true)
			}
			m, err := pb.Encode(frame)
			if list = list[n:]; err != nil {
				s.metrics.drops.WithLabelValues("not_encoded").Add(float64(n))
				s.log.Error("changes of users not encoded", "err", err)
			} else if !yield(m) {
				return
			}
		}
	}
}

// handleChanges takes the changes of a window of another message server. Those that are no news are
// left out.
func (s *presence) handleChanges(l *session.Link, _ uint16, m *pb.IMUserChangesNotify) error {
	node := of(l).node
	if node.Name == "" {
		return errNoMesh(m)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metrics.received.WithLabelValues(m.Command().String()).Inc()
	list := slices.DeleteFunc(m.GetChanges(), func(c *pb.UserChange) bool {
		switch subjectOf(c).kind {
		case statusChange:
			return !s.takeStatus(node, c, m.GetAgain())
		case pcChange:
			return !s.isNews(subjectOf(c), c.GetVersion())
		}
		return subjectOf(c).kind == noChange
	})
	if len(list) > 0 {
		s.toLocal(pb.IMUserChangesNotify_builder{Changes: list}.Build())
	}
	return nil
}

// handleSignInfo tells all message servers of a signature.
func (s *changes) handleSignInfo(_ *session.Link, _ uint16, m *pb.IMSignInfoChangedNotify) error {
	s.tellAll(m, pb.UserChange_builder{UserId: proto.Uint32(m.GetChangedUserId()),
		SignInfo: proto.String(m.GetSignInfo())}.Build())
	return nil
}

// handleAvatar tells all message servers of a picture.
func (s *changes) handleAvatar(_ *session.Link, _ uint16, m *pb.IMAvatarChangedNotify) error {
	s.tellAll(m, pb.UserChange_builder{UserId: proto.Uint32(m.GetChangedUserId()),
		AvatarUrl: proto.String(m.GetAvatarUrl())}.Build())
	return nil
}

// tellAll tells the local message server of a change by m, and the others by c. The local one is
// told even if it sent m: it notifies its own clients when the message returns.
func (s *changes) tellAll(m pb.Message, c *pb.UserChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.toLocal(m)
	s.changes.add(c)
}
