package peers

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// Texts that are forwarded while no route server is connected, or just before a link to one
// is lost, do not arrive at the other message servers. So the latest texts are kept, and
// sent again when a route server is connected: at once, and again until the other message
// servers have had the time to connect. These recognise what they have, and know by the age
// of a text which sessions connected later and found it in the history.
//
// C++ message servers recognise nothing, and some of the stock clients show a text twice. A
// route server of ours sends them no text again. A C++ route server sends everything to
// all, so it gets only the texts that were handed to no link, and gets them once.

const (
	// textKept is how long a text is kept: as long as a kick. maxTexts and maxTextBytes
	// bound the texts kept. The oldest are forgotten first.
	textKept     = kickKept
	maxTexts     = 1 << 14
	maxTextBytes = 8 << 20
	textCost     = 256 // bytes counted for a text besides its content
	// featuresAfter is how long a route server may take to say what it understands. Then
	// it counts as a C++ route server.
	featuresAfter = time.Second
	// textsAtOnce is how many texts are sent again at a time.
	textsAtOnce = 4096
)

// againAfter are the times, since a route server is connected again, after which the texts
// are sent again. The other message servers connect in this time.
var againAfter = []time.Duration{0, time.Second, missedAfter}

// text is a message that was forwarded, or could not be.
type text struct {
	m      *pb.MsgData
	at     time.Time
	handed bool // to a link
}

func (t *text) size() int { return len(t.m.Data) + textCost }

// outbox is the latest texts. Each has a number, one higher than the text before it. With
// Links.mu held.
type outbox struct {
	texts []text // oldest first
	first uint64 // the number of texts[0]
	bytes int
	owed  int // texts that were handed to no link

	// lost says that a link was lost, so that none of the texts may have arrived. since is
	// when a route server was connected after that. round is how often the texts were sent
	// again since then, next the first of the current round that is not sent, and end the
	// first that is not part of it. next is 0 between two rounds.
	lost      bool
	since     time.Time
	round     int
	next, end uint64

	resent  prometheus.Counter
	dropped *prometheus.CounterVec
}

func newOutbox() outbox {
	return outbox{first: 1,
		resent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_msg_texts_resent_total",
			Help: "Texts for devices on other message servers sent late or again, because the " +
				"link to the route server was lost."}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_msg_texts_not_resent_total",
			Help: "Texts that no route server took, and that were forgotten before one did, by " +
				"reason: age, room (too many, or too large). The receivers on other message " +
				"servers find them in the history."}, []string{"reason"})}
}

// add keeps a text.
func (o *outbox) add(m *pb.MsgData, now time.Time, handed bool) {
	t := text{m: m, at: now, handed: handed}
	o.texts = append(o.texts, t)
	o.bytes += t.size()
	if !handed {
		o.owed++
	}
	for len(o.texts) > maxTexts || o.bytes > maxTextBytes {
		o.forget("room")
	}
	o.prune(now)
}

// prune forgets the texts that are too old.
func (o *outbox) prune(now time.Time) {
	for len(o.texts) > 0 && now.Sub(o.texts[0].at) > textKept {
		o.forget("age")
	}
}

// forget forgets the oldest text.
func (o *outbox) forget(reason string) {
	t := &o.texts[0]
	o.bytes -= t.size()
	if !t.handed {
		o.owed--
		o.dropped.WithLabelValues(reason).Inc()
	}
	*t = text{}
	o.texts = o.texts[1:]
	o.first++
	if len(o.texts) == 0 {
		o.texts = nil // release what append has grown
	}
}

// linkLost makes the texts be sent again when a route server is connected.
func (o *outbox) linkLost() { o.lost, o.round, o.next = true, 0, 0 }

// forwardText is Forward for a text.
func (p *Links) forwardText(m *pb.MsgData) bool {
	p.mu.Lock()
	r := first(p.routes)
	p.mu.Unlock()
	handed := p.push(r, m)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outbox.add(m, p.opt.Now(), handed)
	return handed
}

// sendTexts sends again the texts that may not have arrived, as far as the link takes
// them. With mu held.
func (p *Links) sendTexts() {
	o, now := &p.outbox, p.opt.Now()
	o.prune(now)
	if len(p.routes) == 0 || !o.lost && o.owed == 0 {
		return
	}
	link := p.routes[0]
	_, resends := p.resends[link]
	if !resends && now.Sub(o.since) < featuresAfter {
		return // it may still say that it understands texts that are sent again
	}
	if !resends || !o.lost {
		if p.sendAgain(link, o.first, o.first+uint64(len(o.texts)), false, now) {
			o.lost = false
		}
		return
	}
	if o.next == 0 {
		if now.Sub(o.since) < againAfter[o.round] {
			return
		}
		o.next, o.end = o.first, o.first+uint64(len(o.texts))
	}
	if p.sendAgain(link, o.next, o.end, true, now) {
		o.next = 0
		if o.round++; o.round == len(againAfter) {
			o.lost = false
		}
	}
}

// sendAgain sends the texts with the numbers of from to below end: all, or those that were
// handed to no link. It reports whether all of them were sent, and otherwise sets where
// the round continues. With mu held.
func (p *Links) sendAgain(link *session.Link, from, end uint64, all bool, now time.Time) bool {
	o := &p.outbox
	sent := 0
	for n := max(from, o.first); n < end; n++ {
		t := &o.texts[n-o.first]
		if t.handed && !all {
			continue
		}
		if sent == textsAtOnce || link.Send(0, t.again(now)) != nil {
			if all {
				o.next = n
			}
			return false
		}
		sent++
		o.resent.Inc()
		if !t.handed {
			t.handed = true
			o.owed--
		}
	}
	return true
}

// again returns the text as it is sent again.
func (t *text) again(now time.Time) *pb.MsgData {
	m := *t.m
	age := now.Sub(t.at) + time.Millisecond - time.Nanosecond
	m.Resent, m.Age = true, uint32(max(age.Milliseconds(), 0))
	return &m
}
