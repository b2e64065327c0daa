package peers

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/proto/pb"
)

// Texts that are forwarded while no route server is connected, or just before a link to one
// is lost, do not arrive at the other message servers. So the latest texts are kept, and
// sent again when a route server is connected, and when another message server is connected
// to it again. These recognise what they have, and know by the age of a text which sessions
// connected later and found it in the history.
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
	// inFlight is how long before the loss of a link of another message server a text may
	// have been forwarded that did not reach it.
	inFlight = 2 * time.Second
)

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

	// wanted says that the texts from the number next on are to be sent again.
	wanted bool
	next   uint64
	// since is when the route server that forwards became that one.
	since time.Time
	// gone are the times at which links to route servers were lost that are not open again.
	gone []time.Time

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

// want makes the texts that were forwarded at the time from or later be sent again.
func (o *outbox) want(from time.Time) {
	n := o.first
	for i := range o.texts {
		if !o.texts[i].at.Before(from) {
			break
		}
		n++
	}
	if !o.wanted || n < o.next {
		o.wanted, o.next = true, n
	}
}

// linkLost records that a link to a route server was lost. forwards says that it was the
// one that forwards: none of the texts may have arrived.
func (o *outbox) linkLost(now time.Time, forwards bool) {
	o.gone = append(o.gone, now)
	if forwards {
		o.since = now
		o.want(time.Time{})
	}
}

// linkOpened returns for how long this server had one link less to a route server, 0 when
// none was lost.
func (o *outbox) linkOpened(now time.Time) time.Duration {
	if len(o.gone) == 0 {
		return 0
	}
	lost := o.gone[0]
	o.gone = slices.Delete(o.gone, 0, 1)
	return max(now.Sub(lost), time.Millisecond)
}

// forwardText is Forward for a text. A route server gets it without the whereabouts of its users.
func (p *Links) forwardText(m *pb.MsgData) bool {
	if !p.opt.Whereabouts {
		m.Whereabouts = nil
	}
	p.mu.Lock()
	r := first(p.routes)
	p.mu.Unlock()
	handed := p.push(r, m)
	p.mu.Lock()
	defer p.unlock()
	p.outbox.add(m, p.opt.Now(), handed)
	return handed
}

// sendTexts sends again the texts that may not have arrived, as far as the link takes
// them. With mu held.
func (p *Links) sendTexts() {
	o, now := &p.outbox, p.opt.Now()
	o.prune(now)
	if len(p.routes) == 0 || !o.wanted && o.owed == 0 {
		return
	}
	link := p.routes[0]
	_, resends := p.resends[link]
	if !resends && now.Sub(o.since) < featuresAfter {
		return // it may still say that it understands texts that are sent again
	}
	all := resends && o.wanted
	next, end := o.first, o.first+uint64(len(o.texts))
	if all {
		next = max(next, o.next)
	}
	for sent := 0; next < end; next++ {
		t := &o.texts[next-o.first]
		if t.handed && !all {
			continue
		}
		if sent == textsAtOnce || link.Send(0, t.again(now)) != nil {
			break
		}
		sent++
		o.resent.Inc()
		if !t.handed {
			t.handed = true
			o.owed--
		}
	}
	o.next = next
	if next == end {
		o.wanted = false
	}
}

// again returns the text as it is sent again.
func (t *text) again(now time.Time) *pb.MsgData {
	m := *t.m
	age := now.Sub(t.at) + time.Millisecond - time.Nanosecond
	m.Whereabouts = nil // they were those of that moment
	m.Resent, m.Age = true, uint32(max(age.Milliseconds(), 0))
	return &m
}
