package httpapi

import (
	"context"
	"slices"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// A kick is in no table. A call that kicks is answered when a route server of ours has
// confirmed the kick: that one sends it to the message servers that it has, and to those
// whose link to it is lost at that moment, also when this server is gone by then. When the
// route server is lost, the next one gets the kick from this server.
//
// Other route servers confirm nothing. An older one of ours does not send a kick to a
// message server whose news of the login is still on its way, so that it gets each kick
// once more, a second later, and the call waits for that. A C++ route server sends each
// kick to all message servers, and gets it once.

// onceMore is when an older route server is sent a kick for the second time. It is also how
// long a route server may take to say what it understands.
const onceMore = time.Second

// routeLink is the link to a route server. With Routes.mu held.
type routeLink struct {
	*session.Link
	opened   time.Time
	ours     bool // it is no C++ route server
	confirms bool // it confirms kicks
}

// send sends a kept message again.
func (l *routeLink) send(f forwarded, age time.Duration) error {
	m := f.again(age)
	if f.kick != nil && l.confirms {
		f.kick.ask(m)
	}
	return l.Send(0, m)
}

// link returns what is known of a link; nil when it is not open. With mu held.
func (r *Routes) link(s *session.Link) *routeLink {
	i := slices.IndexFunc(r.links, func(l *routeLink) bool { return l.Link == s })
	if i < 0 {
		return nil
	}
	return r.links[i]
}

// sentKick is a kick of all connections of a user of a device class.
type sentKick struct {
	user   uint32
	class  pb.ClientType
	number uint32
	at     time.Time
	asked  bool          // a route server that confirms kicks has it
	done   chan struct{} // closed when one has confirmed it
}

// message returns the kick as it is sent first. Without an age it also ends a login that the
// route server hears of a moment later.
func (k *sentKick) message() *pb.IMServerKickUser {
	m := &pb.IMServerKickUser{}
	m.SetUserId(k.user)
	m.SetClientType(k.class)
	m.SetReason(uint32(pb.KickReasonType_KICK_REASON_DUPLICATE_USER))
	return m
}

// late returns the kick as it is sent again. The login may be as old.
func (k *sentKick) late(age time.Duration) pb.Message {
	m := k.message()
	m.SetAge(uint32(age.Milliseconds()))
	return m
}

// ask asks for a confirmation with the kick m. With Routes.mu held.
func (k *sentKick) ask(m pb.Message) {
	m.(*pb.IMServerKickUser).SetNumber(k.number)
	k.asked = true
}

// kickedClasses are one client type of each device class.
var kickedClasses = [...]pb.ClientType{pb.ClientType_CLIENT_TYPE_WINDOWS,
	pb.ClientType_CLIENT_TYPE_IOS}

// Kick ends all connections of a user. It returns nil when that will happen. route is the
// route servers. After an error of kind im.Unavailable it may still happen.
func (r *Routes) Kick(ctx context.Context, route Peer, user uint32) error {
	var kicks []*sentKick
	var wait time.Duration
	for _, class := range kickedClasses {
		k := &sentKick{user: user, class: class, done: make(chan struct{})}
		after, err := r.sendKick(route, k)
		if err != nil {
			return err
		}
		kicks, wait = append(kicks, k), max(wait, after)
	}
	again := time.NewTimer(wait)
	defer again.Stop()
	for len(kicks) > 0 {
		select {
		case <-kicks[0].done:
			kicks = kicks[1:]
		case <-again.C:
			if !r.sendOnceMore(kicks) {
				return nil
			}
			again.Reset(onceMore)
		case <-ctx.Done():
			return im.WithKind(im.Unavailable, "no route server has confirmed the kick", ctx.Err())
		}
	}
	return nil
}

// sendKick keeps a kick and sends it: to a route server that confirms it if there is one.
// wait is after how long it may count as carried out without a confirmation.
func (r *Routes) sendKick(route Peer, k *sentKick) (wait time.Duration, err error) {
	r.mu.Lock()
	now, m := r.now(), k.message()
	r.number++
	k.number, k.at = r.number, now
	r.kicks.add(forwarded{at: now, kick: k, again: k.late})
	for _, l := range r.links {
		if l.confirms {
			if k.ask(m); l.Send(0, m) == nil {
				r.mu.Unlock()
				return onceMore, nil
			}
		}
		if l.ours || now.Sub(l.opened) < onceMore {
			wait = onceMore // it is older, or may still confirm
		}
	}
	r.mu.Unlock()
	return wait, route.Send(uint64(k.user), 0, k.message())
}

// sendOnceMore sends kicks to older route servers of ours for the second time. It reports
// whether one of them waits for the confirmation of another.
func (r *Routes) sendOnceMore(kicks []*sentKick) (waits bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range kicks {
		waits = waits || k.asked
		for _, l := range r.links {
			if l.ours && !l.confirms {
				_ = l.Send(0, k.late(r.now().Sub(k.at))) // a failed Send ends the link
			}
		}
	}
	return waits
}

// confirmed takes the confirmation of a kick.
func (r *Routes) confirmed(m *pb.IMServerKickUser) {
	if !m.HasNumber() {
		return // of another server, passed on to all
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range slices.Backward(r.kicks.list) {
		if f.kick.number != m.GetNumber() {
			continue
		}
		select {
		case <-f.kick.done: // sent again, and confirmed again
		default:
			close(f.kick.done)
		}
		return
	}
}
