package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"teamtalk/proto/pb"
)

// act is what happens from outside: a client writes, or something breaks.
type act uint8

const (
	actWrite         act = iota // client a writes n texts to user b
	actHangUp                   // client a closes its connection for d
	actCutClient                // the connection of client a is reset
	actHalfClient               // the connection of client a becomes half-open
	actCrash                    // process a crashes, and starts d later
	actVanish                   // process a crashes and nobody is told
	actStop                     // process a drains and ends, and starts d later
	actCrashAtCommit            // db_proxy a crashes right after its next commit
	actCutLink                  // link a is reset
	actHalfLink                 // link a becomes half-open
	actSlowLink                 // link a delivers nothing for d
	actMood                     // db_proxy a has the mood n for d
	actLag                      // the replica for reads is behind for d
	actClock                    // the wall clock of process a is wrong by n-2 hours and d
	actMembers                  // user b is added to group a, or removed if n is 2
	actList                     // message server a does not know db_proxy b for d
	actRedis                    // the whereabouts have the mood n for message server a for d
	actForget                   // the whereabouts are lost
	actCutOff                   // message server a does not reach Redis for d
	acts
)

var actNames = [acts]string{"write", "hang up", "cut client", "half-open client", "crash",
	"vanish", "stop", "crash at commit", "cut link", "half-open link", "slow link", "mood",
	"lag", "clock", "members", "list", "redis", "forget", "cut off"}

// step is an act at a time.
type step struct {
	at      time.Duration
	act     act
	a, b, n int
	d       time.Duration
}

// actIdents are the acts as they are written in a test.
var actIdents = [acts]string{"actWrite", "actHangUp", "actCutClient", "actHalfClient",
	"actCrash", "actVanish", "actStop", "actCrashAtCommit", "actCutLink", "actHalfLink",
	"actSlowLink", "actMood", "actLag", "actClock", "actMembers", "actList",
	"actRedis", "actForget", "actCutOff"}

func (s step) String() string {
	return fmt.Sprintf("%v %s a=%d b=%d n=%d d=%v", s.at, actNames[s.act], s.a, s.b, s.n, s.d)
}

// The length of a run: faults and texts happen within active. Then everything is mended,
// and within patience all must be as it should.
const (
	active   = 60 * time.Second
	patience = 200 * time.Second
	writes   = 80 // some of them by two clients at once, some of several texts
)

// plan returns the schedule of a seed.
func plan(w *world) []step {
	s, clients := w.sched, len(w.clients)
	src := s.source("plan")
	var steps []step
	for range writes {
		p := step{at: src.between(3*time.Second, active), act: actWrite,
			a: src.rand.IntN(clients), b: 1 + src.rand.IntN(users), n: 1}
		if src.chance(0.3) {
			p.b = firstGroup + 1 + src.rand.IntN(groups)
		}
		if src.chance(0.3) {
			p.n += src.rand.IntN(5)
		}
		steps = append(steps, p)
		if src.chance(0.3) { // another client writes there at the same time
			p.a, p.at = src.rand.IntN(clients), p.at+src.between(0, 3*time.Millisecond)
			steps = append(steps, p)
		}
	}
	for range src.rand.IntN(6) {
		steps = append(steps, step{at: src.between(3*time.Second, active), act: actMembers,
			a: firstGroup + 1 + src.rand.IntN(groups), b: 1 + src.rand.IntN(users),
			n: 1 + src.rand.IntN(2)})
	}
	for range src.rand.IntN(25) {
		p := step{at: src.between(3*time.Second, active),
			act: act(1 + src.rand.IntN(int(actMembers)-1)),
			a:   src.rand.IntN(1000), n: 1 + src.rand.IntN(moods),
			d: src.between(100*time.Millisecond, 8*time.Second)}
		if src.chance(0.6) { // while a text is on its way
			written := steps[src.rand.IntN(writes)]
			p.at = written.at + src.between(0, 15*time.Millisecond)
			if src.chance(0.5) {
				p.a = written.a
			}
		}
		steps = append(steps, p)
	}
	steps = append(steps, listSteps(s, steps[:writes])...)
	if w.cluster != nil {
		steps = append(steps, redisSteps(w, steps[:writes])...)
	}
	slices.SortFunc(steps, func(a, b step) int { return int(a.at - b.at) })
	return steps
}

// listSteps returns changes of the lists of db_proxies, many of them while a text is on its
// way. A third of the seeds has some.
func listSteps(s *sched, written []step) (steps []step) {
	src := s.source("lists")
	if !src.chance(0.3) {
		return nil
	}
	for range 1 + src.rand.IntN(4) {
		p := step{at: src.between(3*time.Second, active), act: actList, a: src.rand.IntN(2),
			b: src.rand.IntN(2), d: src.between(time.Millisecond, 8*time.Second)}
		if src.chance(0.6) {
			p.at = written[src.rand.IntN(len(written))].at + src.between(0, 15*time.Millisecond)
		}
		steps = append(steps, p)
	}
	return steps
}

// apply carries out a step.
func (w *world) apply(p step) {
	c := w.clients[p.a%len(w.clients)]
	dbs := []*proc{w.procs["db1"], w.procs["db2"]}
	switch p.act {
	case actWrite:
		for range p.n {
			if c.user != uint32(p.b) {
				c.write(uint32(p.b))
			}
		}
	case actHangUp:
		c.hangUp(p.d)
	case actCutClient:
		if c.conn != nil {
			c.conn.cut()
		}
	case actHalfClient:
		if c.conn != nil {
			c.conn.silence()
		}
	case actCrash, actVanish:
		w.crash(w.order[p.a%len(w.order)], p.act == actVanish, p.d)
	case actStop:
		w.stop(w.order[p.a%len(w.order)], p.d)
	case actCrashAtCommit:
		dbs[p.a%2].crashAtCommit = true
	case actCutLink, actHalfLink, actSlowLink:
		w.harmLink(p)
	case actMembers:
		w.changeMembers(p)
	case actList:
		w.leaveOut(w.procs[w.msgs[p.a%len(w.msgs)]], dbs[p.b%2].name, p.d)
	case actLag:
		w.db.lag = max(w.db.lag, w.now()+p.d)
	case actClock:
		off := time.Duration(p.n-2)*time.Hour + p.d.Truncate(time.Second)
		of := w.order[p.a%len(w.order)]
		of.clock.Store(int64(off))
		w.skewed = w.skewed || strings.HasPrefix(of.name, "msg")
	case actRedis:
		w.setRedis(p)
	case actForget:
		w.forget()
	case actCutOff:
		w.cutOff(w.procs[w.msgs[p.a%len(w.msgs)]], p.d)
	case actMood:
		w.setMood(dbs[p.a%2], mood(p.n), p.d)
	}
}

// How long a fault lasts beyond its end: until calls have failed and links are up again,
// and until both sides know that a link is half-open.
const (
	aftermath     = 2 * time.Second
	halfOpenLasts = 40 * time.Second
)

// crash ends a process for d.
func (w *world) crash(p *proc, silent bool, d time.Duration) {
	if !p.up {
		return
	}
	if silent {
		w.hangFor(halfOpenLasts)
		w.troubleFor(halfOpenLasts)
		w.lossFor(halfOpenLasts)
		w.faultFor(halfOpenLasts)
	}
	p.crash(silent)
	w.faultFor(d + aftermath)
	w.after(d, p.name+" starts", p.revive)
}

// harmLink breaks one of the links between processes.
func (w *world) harmLink(p step) {
	var links []*connection
	for _, c := range w.net.conns {
		if c.from != nil && !c.half {
			links = append(links, c)
		}
	}
	if len(links) == 0 {
		return
	}
	l, lasts := links[p.a%len(links)], aftermath
	switch p.act {
	case actCutLink:
		l.cut()
	case actHalfLink:
		lasts = halfOpenLasts
		w.hangFor(lasts)
		w.lossFor(lasts)
		l.silence()
	default:
		lasts = p.d + aftermath
		w.hangFor(lasts)
		l.slow(p.d)
	}
	w.troubleFor(lasts)
	w.faultFor(lasts)
}

// changeMembers has the creator of a group add or remove a user.
func (w *world) changeMembers(p step) {
	g := w.db.groups[uint32(p.a)]
	t := pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	if p.n == 2 {
		t = pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL
	}
	for _, c := range w.clients {
		if c.user == g.Creator && uint32(p.b) != c.user {
			c.change(g.ID, uint32(p.b), t)
			return
		}
	}
}

// moodLasts is how long a call may take that began in a bad mood.
const moodLasts = 10 * time.Second

// setMood changes the mood of the store for d.
func (w *world) setMood(p *proc, m mood, d time.Duration) {
	p.mood = m
	p.moods++
	w.faultFor(d + moodLasts)
	w.hangFor(d + moodLasts)
	n := p.moods
	w.after(d, p.name+" calms down", func() {
		if p.moods == n {
			p.mood = moodWell
		}
	})
}

// leaveOut takes a db_proxy from the list of a message server for d, unless it is the last.
// That harms nobody as long as the other one works.
func (w *world) leaveOut(p *proc, db string, d time.Duration) {
	if !p.up || len(p.short) > 0 && p.short[db] == 0 {
		return
	}
	life := p.life
	set := func(n int) {
		if life.short[db] += n; life.short[db] == 0 {
			delete(life.short, db)
		}
		life.stores.SetServers(addresses(slices.DeleteFunc([]string{"db1", "db2"},
			func(name string) bool { return life.short[name] > 0 })))
	}
	set(1)
	w.after(d, p.name+" knows "+db, func() {
		if !life.dead.Load() {
			set(-1)
		}
	})
}
