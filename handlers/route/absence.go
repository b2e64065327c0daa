package route

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/proto/pb"
)

// A message server without a link misses what the others send it. When it has a link again,
// they are told for how long it had none, and send again what it may have missed. One of
// them may have no link at that moment. It is told when it has one, so this server keeps
// the absences that it told.

// absence is a time in which a message server had no link.
type absence struct {
	since time.Time
	told  time.Time // to the other message servers
}

// maxAbsences bounds the absences kept. Above it, the oldest two become one.
const maxAbsences = 64

// brokenLasts is for how long the link of a message server may have been broken before it
// was lost.
const brokenLasts = 35 * time.Second

// tellMissed tells the other message servers that sv was not connected for some time: they
// send the texts and kicks of that time again. sv is told of servers that were not connected
// in the time before it was, and of the statuses of users that it may have missed. sv has reported
// its users, so that it gets what is sent.
func (r *Server) tellMissed(sv *server) {
	if sv.missed == 0 {
		return
	}
	now, missed := r.opt.Now(), time.Duration(sv.missed)*time.Millisecond
	sv.missed = 0
	r.sendKicks(sv, missed)
	r.tellStatuses(sv, now.Add(-missed-brokenLasts))
	r.mu.Lock()
	other := r.absent(now, now.Add(-missed-brokenLasts))
	r.absences = append(r.absences, absence{now.Add(-missed), now})
	if len(r.absences) > maxAbsences {
		r.absences[1].since = earlier(r.absences[0].since, r.absences[1].since)
		r.absences = slices.Delete(r.absences, 0, 1)
	}
	r.mu.Unlock()
	to := slices.DeleteFunc(r.all(sv.node), func(o *server) bool { return !o.resent.Load() })
	r.send(to, 0, missedNote(missed))
	if other > 0 && sv.resent.Load() {
		r.send([]*server{sv}, 0, missedNote(other))
	}
}

// missedNote is the message that tells of a server that was not connected for some time.
func missedNote(missed time.Duration) *pb.IMRoleSet {
	return pb.IMRoleSet_builder{Master: proto.Uint32(0), Features: proto.Uint32(features),
		Missed: proto.Uint32(uint32(min(missed.Milliseconds(), 1<<32-1)))}.Build()
}

// absent returns how long ago the first of the absences began that were told after a time, 0
// when there is none. The caller holds r.mu.
func (r *Server) absent(now, after time.Time) (ago time.Duration) {
	for _, a := range r.absences {
		if !a.told.Before(after) {
			ago = max(ago, now.Sub(a.since))
		}
	}
	return ago
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
