package httpapi

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// A text or a kick that the route server has does not reach a message server that has no link
// to it at that moment, or it is lost with the route server. So the latest ones are kept, and
// sent again when a link to a route server of ours is open again, and when the route server
// says for how long a message server had no link. Each says how old it is then, so that a
// kick ends no later login. Message servers recognise texts that they have. A call that
// kicks waits for a route server, see kicks.go.

const (
	// kickKept and textKept are how long kicks and texts are kept. A text that is not
	// delivered is found in the history. For a kick nothing else remains.
	kickKept = 10 * time.Minute
	textKept = 35 * time.Second
	// maxKicks, maxTexts and maxTextBytes bound them. The oldest are forgotten first.
	maxKicks     = 1 << 13
	maxTexts     = 1 << 14
	maxTextBytes = 8 << 20
	textCost     = 256 // bytes counted for a text besides its content
	// brokenLasts is for how long the link of a message server may have been broken before
	// it was lost.
	brokenLasts = 35 * time.Second
)

// Routes keeps the texts and kicks of the latest calls, and sends them again. It is the
// handler of the links to route servers. Any goroutine.
type Routes struct {
	now       func() time.Time
	resent    prometheus.Counter
	forgotten *prometheus.CounterVec

	mu           sync.Mutex
	kicks, texts kept
	links        []*routeLink // in the order in which they opened
	number       uint32       // of the last kick
}

// kept is a list of messages, oldest first. With Routes.mu held.
type kept struct {
	list     []forwarded
	bytes    int
	age      time.Duration
	max      int
	maxBytes int
	dropped  prometheus.Counter
}

// forwarded is a message that a route server got, or should have.
type forwarded struct {
	again func(age time.Duration) pb.Message
	size  int
	at    time.Time
	kick  *sentKick // nil: a text
}

// NewRoutes returns a Routes. now is the clock, and reg, unless nil, gets the metrics.
func NewRoutes(now func() time.Time, reg prometheus.Registerer) *Routes {
	r := &Routes{now: now,
		resent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_http_resent_total",
			Help: "Texts and kicks of calls sent again, because a message server or this one had " +
				"no link to the route server."}),
		forgotten: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_http_not_kept_total",
			Help: "Texts and kicks of calls that can no longer be sent again, because too many " +
				"followed them, by kind: text, kick."}, []string{"kind"})}
	r.kicks = kept{age: kickKept, max: maxKicks, maxBytes: 1 << 30,
		dropped: r.forgotten.WithLabelValues("kick")}
	r.texts = kept{age: textKept, max: maxTexts, maxBytes: maxTextBytes,
		dropped: r.forgotten.WithLabelValues("text")}
	if reg != nil {
		reg.MustRegister(r.resent, r.forgotten)
	}
	return r
}

// add keeps a message.
func (k *kept) add(f forwarded) {
	k.list, k.bytes = append(k.list, f), k.bytes+f.size
	for len(k.list) > k.max || k.bytes > k.maxBytes {
		k.forget()
		k.dropped.Inc()
	}
	k.prune(f.at)
}

// prune forgets the messages that are too old.
func (k *kept) prune(now time.Time) {
	for len(k.list) > 0 && now.Sub(k.list[0].at) > k.age {
		k.forget()
	}
}

// forget forgets the oldest message.
func (k *kept) forget() {
	k.bytes -= k.list[0].size
	k.list[0] = forwarded{}
	if k.list = k.list[1:]; len(k.list) == 0 {
		k.list = nil // release what append has grown
	}
}

// keepText keeps a text.
func (r *Routes) keepText(m *pb.MsgData) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts.add(forwarded{at: r.now(), size: len(m.Data) + textCost,
		again: func(age time.Duration) pb.Message {
			again := *m
			// Rounded up: a client that logged in later has found the text in the history.
			age += time.Millisecond - time.Nanosecond
			again.Resent, again.Age = true, uint32(age.Milliseconds())
			return &again
		}})
}

// Open sends the role of this server to a route server. It takes no presence. A route
// server of ours answers with its features.
func (r *Routes) Open(s *session.Link) error {
	r.mu.Lock()
	r.links = append(r.links, &routeLink{Link: s, opened: r.now()})
	r.mu.Unlock()
	role := &pb.IMRoleSet{}
	role.SetMaster(0)
	role.SetFeatures(uint32(pb.ServerFeature_SERVER_FEATURE_RESENT |
		pb.ServerFeature_SERVER_FEATURE_REFUSALS))
	return s.Send(0, role)
}

// Frame takes frames of route servers, see Message.
func (r *Routes) Frame(s *session.Link, h pdu.Header, body []byte) {
	var m pb.Message
	switch h.Command {
	case pb.CmdRoleSet:
		m = &pb.IMRoleSet{}
	case pb.CmdServerKickUser:
		m = &pb.IMServerKickUser{}
	default:
		return
	}
	if m.ParseBody(body) == nil { // others send none that does not decode
		r.Message(s, h.Seq, m)
	}
}

// Message takes the answer of a route server to Open, what it confirms, and what it says of
// a message server that had no link: what that one may have missed is sent again. Other
// messages are for message servers, and are ignored.
func (r *Routes) Message(s *session.Link, _ uint16, m pb.Message) {
	switch m := m.(type) {
	case *pb.IMServerKickUser:
		r.confirmed(m)
	case *pb.IMRoleSet:
		if m.GetFeatures()&uint32(pb.ServerFeature_SERVER_FEATURE_RESENT) != 0 {
			r.sendAgain(s, m)
		}
	}
}

// sendAgain sends what the message servers of a route server may have missed.
func (r *Routes) sendAgain(s *session.Link, role *pb.IMRoleSet) {
	missed := kickKept // the link may be new: everything may be missing
	if role.HasMissed() {
		missed = time.Duration(role.GetMissed()) * time.Millisecond
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	link := r.link(s)
	if link == nil {
		return
	}
	link.ours = true
	link.confirms = role.GetFeatures()&uint32(pb.ServerFeature_SERVER_FEATURE_KICKS) != 0
	now := r.now()
	for _, k := range []*kept{&r.kicks, &r.texts} {
		k.prune(now)
		for _, f := range k.list {
			old := now.Sub(f.at)
			if old > missed+brokenLasts {
				continue
			}
			if link.send(f, old) != nil {
				return // the link ends, and the next one gets them
			}
			r.resent.Inc()
		}
	}
}

// Close forgets the link.
func (r *Routes) Close(s *session.Link, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.links = slices.DeleteFunc(r.links, func(l *routeLink) bool { return l.Link == s })
}
