package peers

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// A login ends older sessions of its user on other message servers. If the route server
// does not get the kick, both devices stay logged in. So a kick that was not sent, or was
// perhaps lost with its link, is sent when a route server is connected again. It says how
// old it is then, so that it ends no session of a later login.
//
// The other message server may be the one without a link. When it has one again, the route
// server says for how long it had none, and the kicks of that time are sent again.

const (
	// kickKept is how long a kick is kept that was sent: a link that broke without a sign
	// is closed after 30 s of silence.
	kickKept = 35 * time.Second
	// maxKicks bounds the kicks kept, at about 150 bytes each. kicksAtOnce is how many of
	// them are sent again at a time.
	maxKicks    = 1 << 16
	kicksAtOnce = 1000
)

// kicks is the kicks that may not have arrived. With Links.mu held.
type kicks struct {
	sent   []kick // within kickKept
	owed   []kick // not sent, or sent on a link that was lost
	resent prometheus.Counter
}

type kick struct {
	m    *pb.IMServerKickUser
	by   uint64    // the session whose login or request it is
	at   time.Time // of the login or request
	sent time.Time // last
	// again says that it was sent since a route server is connected again. It is sent once
	// more when the other message servers are connected as well.
	again bool
}

// KickElsewhere gives a kick to the route server that passes it on to other message
// servers. by is the client whose login or request it is. A kick that may not have arrived
// is sent again, see kickAgain. With the lock held.
func (p *Links) KickElsewhere(m *pb.IMServerKickUser, by *session.Client) {
	now := p.opt.Now()
	k := kick{m: m, by: by.ID(), at: now, sent: now}
	ks := &p.kicks
	ks.prune(now)
	if len(p.routes) == 0 || p.routes[0].Send(0, m) != nil {
		p.owe(k)
	} else if ks.room() {
		ks.sent = append(ks.sent, k)
	}
}

// room reports whether one more kick may be kept.
func (ks *kicks) room() bool { return len(ks.sent)+len(ks.owed) < maxKicks }

// owe keeps a kick that has to be sent. With mu held.
func (p *Links) owe(k kick) {
	if p.kicks.room() {
		p.kicks.owed = append(p.kicks.owed, k)
	} else {
		p.notForwarded.WithLabelValues(k.m.Command().String()).Inc()
	}
}

// kickMissed makes the kicks of the latest logins be sent again: another message server had
// no link to the route server for the time missed, and may have had one that was broken
// without a sign before. With mu held.
func (p *Links) kickMissed(missed time.Duration) {
	now := p.opt.Now()
	p.kicks.prune(now)
	p.kicks.lost()
	owed := map[uint64]bool{} // logins
	for _, k := range p.kicks.owed {
		if k.m.GetReason() == uint32(pb.KickReasonType_KICK_REASON_DUPLICATE_USER) {
			owed[k.by] = true
		}
	}
	p.online.Each(func(c *session.Client) {
		age := c.LoginAge(now)
		if !p.opt.Replaces || age > missed+kickKept || owed[c.ID()] {
			return
		}
		m := &pb.IMServerKickUser{}
		m.SetUserId(c.User)
		m.SetClientType(c.ClientType)
		m.SetReason(uint32(pb.KickReasonType_KICK_REASON_DUPLICATE_USER))
		p.owe(kick{m: m, by: c.ID(), at: now.Add(-age)})
	})
	p.kickAgain()
}

// prune forgets the kicks that have arrived.
func (ks *kicks) prune(now time.Time) {
	n := 0
	for n < len(ks.sent) && now.Sub(ks.sent[n].sent) > kickKept {
		n++
	}
	if ks.sent = slices.Delete(ks.sent, 0, n); len(ks.sent) == 0 {
		ks.sent = nil // release what append has grown
	}
}

// lost takes the kicks that were sent as perhaps lost with the link.
func (ks *kicks) lost() {
	ks.owed, ks.sent = append(ks.owed, ks.sent...), nil
}

// kickAgain sends the kicks that may not have arrived: when a route server is connected,
// and once more when it has been connected for as long as other message servers need to
// connect. Kicks of clients that have left are dropped: a later login has its own. With mu
// held.
func (p *Links) kickAgain() {
	ks, now := &p.kicks, p.opt.Now()
	ks.prune(now)
	if len(ks.owed) == 0 || len(p.routes) == 0 {
		return
	}
	late := now.Sub(p.since) >= missedAfter
	n := 0
	ks.owed = slices.DeleteFunc(ks.owed, func(k kick) bool { return !p.isOnline(k) })
	for i := range ks.owed {
		k := &ks.owed[i]
		if k.again && !late {
			continue
		}
		if n >= kicksAtOnce || p.routes[0].Send(0, k.late(now)) != nil {
			break
		}
		n++
		ks.resent.Inc()
		k.again = true
		if late {
			sent := *k
			sent.sent, sent.again = now, false
			ks.sent = append(ks.sent, sent) // it may be lost again
			k.m = nil
		}
	}
	if ks.owed = slices.DeleteFunc(ks.owed,
		func(k kick) bool { return k.m == nil }); len(ks.owed) == 0 {
		ks.owed = nil
	}
}

// isOnline reports whether the client of a kick is still logged in.
func (p *Links) isOnline(k kick) bool {
	return slices.ContainsFunc(p.online.Of(k.m.GetUserId()),
		func(s *session.Client) bool { return s.ID() == k.by })
}

// late returns the kick as it is sent again. Its age is rounded up, so that it ends no
// later login.
func (k *kick) late(now time.Time) *pb.IMServerKickUser {
	m := &pb.IMServerKickUser{}
	m.SetUserId(k.m.GetUserId())
	m.SetClientType(k.m.GetClientType())
	m.SetReason(k.m.GetReason())
	age := now.Sub(k.at) + time.Millisecond - time.Nanosecond
	m.SetAge(uint32(min(age.Milliseconds(), 1<<32-1)))
	return m
}
