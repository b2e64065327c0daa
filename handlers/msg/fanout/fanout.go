// Package fanout sends one frame to many clients, in a form that each of them can read.
package fanout

import (
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/obs"
	"teamtalk/core/pdu"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// SoundTooLong is the text that Android gets in place of a sound that does not fit its
// frame.
const SoundTooLong = "[语音过长，请在其他设备上收听]"

// Options sets up a Fanout. All fields but Registerer must be set.
type Options struct {
	// SoundTooLong is SoundTooLong as the body of a text.
	SoundTooLong []byte
	// AndroidCut counts what does not fit a frame to Android, by outcome.
	AndroidCut *prometheus.CounterVec

	Now        func() time.Time
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: the metrics are not registered
}

// Fanout sends one frame to many sessions, with one note to each of their loops. Any
// goroutine.
type Fanout struct {
	opt        Options
	deliveries prometheus.Counter
	dropped    obs.Often
}

// New returns a Fanout.
func New(opt Options) *Fanout {
	o := &Fanout{opt: opt, deliveries: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "teamtalk_msg_deliveries_total",
		Help: "Messages put into the mailboxes of connected devices."})}
	if opt.Registerer != nil {
		opt.Registerer.MustRegister(o.deliveries)
	}
	return o
}

// Frame returns m as clients get it, without the fields that servers add. It returns nil
// when m does not encode.
func (o *Fanout) Frame(m *pb.MsgData) []byte {
	out := pb.MsgData{FromUserID: m.FromUserID, ToSessionID: m.ToSessionID, MsgID: m.MsgID,
		CreateTime: m.CreateTime, Type: m.Type, Data: m.Data}
	frame, err := pdu.Append(make([]byte, 0, pdu.HeaderLen+out.BodySize()), 0, &out)
	if err != nil {
		o.opt.Log.Error("message not encoded", "user", m.FromUserID, "err", err)
		return nil
	}
	return frame
}

// Post sends a frame to sessions except but.
func (o *Fanout) Post(sessions []*session.Client, but *session.Client, frame []byte,
	tag session.Tag) {
	if len(frame) > pdu.MaxAndroidFrame {
		var android []*session.Client
		if android, sessions = apart(sessions); len(android) > 0 {
			if short := o.shortFrame(frame); short != nil {
				o.Post(android, but, short, tag)
			}
		}
	}
	for i, s := range sessions {
		if s == but || postedBefore(sessions[:i], but, s.Loop()) {
			continue
		}
		var group []*session.Client
		for _, other := range sessions[i:] {
			if other != but && other.Loop() == s.Loop() {
				group = append(group, other)
			}
		}
		o.deliveries.Add(float64(len(group)))
		if err := s.Loop().FanOut(group, frame, tag); err != nil {
			o.dropped.Warn(o.opt.Log, o.opt.Now(), "delivery dropped, sessions closed",
				"user", s.User, "err", err)
		}
	}
}

// postedBefore reports whether a session in sessions, other than but, is on loop l.
func postedBefore(sessions []*session.Client, but *session.Client, l *session.Loop) bool {
	for _, s := range sessions {
		if s != but && s.Loop() == l {
			return true
		}
	}
	return false
}

// PostLists sends a frame to the sessions of lists except but, and except those with an
// id from since on, if since is not 0.
func (o *Fanout) PostLists(lists []session.OnLoop, but *session.Client, since uint64,
	frame []byte, tag session.Tag) {
	if len(frame) > pdu.MaxAndroidFrame {
		var android []session.OnLoop
		if android, lists = apartOnLoops(lists); len(android) > 0 {
			if short := o.shortFrame(frame); short != nil {
				o.PostLists(android, but, since, short, tag)
			}
		}
	}
	for _, l := range lists {
		to := l.Clients
		if since != 0 || (but != nil && but.Loop() == l.Loop) {
			to = make([]*session.Client, 0, len(l.Clients))
			for _, s := range l.Clients {
				if s != but && (since == 0 || s.ID() < since) {
					to = append(to, s)
				}
			}
		}
		if len(to) == 0 {
			continue
		}
		o.deliveries.Add(float64(len(to)))
		if err := l.Loop.FanOut(to, frame, tag); err != nil {
			o.dropped.Warn(o.opt.Log, o.opt.Now(), "delivery dropped, sessions closed",
				"group", tag.Peer, "err", err)
		}
	}
}

// apart splits sessions into those of Android clients and the others.
func apart(sessions []*session.Client) (android, others []*session.Client) {
	for _, s := range sessions {
		if s.ClientType == pb.ClientType_CLIENT_TYPE_ANDROID {
			android = append(android, s)
		} else {
			others = append(others, s)
		}
	}
	return android, others
}

// apartOnLoops is apart for sessions by loop.
func apartOnLoops(lists []session.OnLoop) (android, others []session.OnLoop) {
	for _, l := range lists {
		a, o := apart(l.Clients)
		if len(a) > 0 {
			android = append(android, session.OnLoop{Loop: l.Loop, Clients: a})
		}
		if len(o) > 0 {
			others = append(others, session.OnLoop{Loop: l.Loop, Clients: o})
		}
	}
	return android, others
}

// shortFrame returns the frame that Android gets in place of a sound that is too long for
// it: a text under the same id. It returns nil when frame is no message: no other frame
// is that long, unless a db_proxy of the first implementation has a group of tens of
// thousands.
func (o *Fanout) shortFrame(frame []byte) []byte {
	var m pb.MsgData
	if pdu.ParseHeader(frame).Command != pb.CmdMsgData ||
		m.ParseBody(frame[pdu.HeaderLen:]) != nil {
		o.opt.AndroidCut.WithLabelValues("dropped").Inc()
		return nil
	}
	o.opt.AndroidCut.WithLabelValues("sound").Inc()
	m.Type, m.Data = m.Type.Text(), o.opt.SoundTooLong
	return o.Frame(&m)
}
