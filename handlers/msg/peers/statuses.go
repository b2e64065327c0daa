package peers

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// A route server tells all PC clients that a user's PC came or left. Nobody is told when the
// route server stands still or is gone and its link is not closed yet: a route server that was
// restarted learns of this server's users from a list, and tells nobody of them. Clients would see
// an old status for good. So the changes of that time are told again. The route server itself tells
// a message server the changes that it missed while its link was broken.
//
// Each of these users is said to come and to leave, as a further client of its type. A user
// whose PC is here is told to be online by that, and stays. One whose PC has left is told to be
// offline, also by a route server that never knew it. C++ route servers understand this as well.

const (
	// missedAfter is how long a route server has to be connected again before it is told
	// of these changes: the other message servers, whose clients are to hear of them,
	// connect at about the same time.
	missedAfter = 3 * time.Second
	// missedAtOnce is how many users are told of at a time.
	missedAtOnce = 1000
	// maxTold bounds the changes that were told and are kept. Of more, the oldest are
	// forgotten.
	maxTold = 1 << 16
)

// statuses is the users that came or left while the clients of other message servers may not
// have been told. With Links.mu held.
type statuses struct {
	// unheard are users to be told of, with the type of a PC client that they have or had.
	// There are at most as many as are and were here: nobody logs in while no route server
	// is connected.
	unheard map[uint32]pb.ClientType
	// told are the users that left, and those that were told again, within kickKept, oldest
	// first. Logins need not be kept: the clients are here.
	told []change

	// wanted says that logins at the time from or later are to be told again.
	wanted bool
	from   time.Time

	again prometheus.Counter
}

// change is a user that a route server was told of, with the type of the PC client.
type change struct {
	user   uint32
	client pb.ClientType
	at     time.Time
}

func newStatuses() statuses {
	return statuses{unheard: map[uint32]pb.ClientType{},
		again: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_msg_statuses_again_total",
			Help: "Users that clients of other message servers are told again to be online or " +
				"offline, because a link to a route server was lost."})}
}

// left records that the last PC client of a user left. heard says that a route server was told.
func (st *statuses) left(user uint32, client pb.ClientType, heard bool, now time.Time) {
	if !heard {
		st.unheard[user] = client
		return
	}
	st.keep(change{user, client, now})
}

// keep keeps a change that was told, and forgets those that have arrived.
func (st *statuses) keep(c change) {
	n := 0
	for n < len(st.told) && (c.at.Sub(st.told[n].at) > kickKept || len(st.told)-n >= maxTold) {
		n++
	}
	st.told = append(st.told[n:], c)
}

// linkLost makes the changes be told again that may have been lost with a link.
func (st *statuses) linkLost(now time.Time) {
	for _, c := range st.told {
		if now.Sub(c.at) <= kickKept {
			st.unheard[c.user] = c.client
		}
	}
	st.told = nil
	if !st.wanted {
		st.wanted, st.from = true, now.Add(-kickKept)
	}
}

// owes reports whether there is something to tell.
func (st *statuses) owes() bool { return st.wanted || len(st.unheard) > 0 }

// tellStatuses tells the route servers of the users whose changes may not have been heard. With
// mu held.
func (p *Links) tellStatuses() {
	st, now := &p.statuses, p.opt.Now()
	if len(p.routes) == 0 || now.Sub(p.since) < missedAfter {
		return
	}
	if st.wanted {
		st.wanted = false
		p.online.Each(func(c *session.Client) {
			if !c.ClientType.IsMobile() && c.LoginAge(now) <= now.Sub(st.from) {
				st.unheard[c.User] = c.ClientType
			}
		})
	}
	users := make([]uint32, 0, min(len(st.unheard), missedAtOnce))
	for user := range st.unheard {
		if len(users) == missedAtOnce {
			break
		}
		users = append(users, user)
	}
	slices.Sort(users) // so that a simulation that is run again has the same events
	for _, user := range users {
		client := st.unheard[user]
		delete(st.unheard, user)
		st.again.Inc()
		st.keep(change{user, client, now}) // it may be lost again
		for _, r := range p.routes {
			if p.tell(r, statusUpdate(user, client, online)) {
				p.tell(r, statusUpdate(user, client, offline)) // a full link gets the list later
			}
		}
	}
}
