// Package latekick keeps the kicks of the HTTP API for message servers that may have missed them.
//
// The HTTP server tells its caller that a kick will happen once it is confirmed, and may be killed
// then. So the server that confirmed it sends it again to each message server whose link was lost
// at that time. The kick has its age then, so that it ends no later login.
package latekick

import (
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/proto/pb"
)

const (
	// kept is how long a kick is kept. maxKicks bounds the kicks kept, at about 100 bytes each.
	kept     = 10 * time.Minute
	maxKicks = 1 << 13
)

// Kicks are the kicks that message servers may have missed, oldest first. The zero value has
// none. It is not safe for concurrent use.
type Kicks []kick

type kick struct {
	m  *pb.IMServerKickUser
	at time.Time // of the call
}

// Keep keeps a kick, and returns how many others are forgotten for it because there are too many.
// The caller must not change m any more.
func (k *Kicks) Keep(m *pb.IMServerKickUser, at time.Time) (forgotten int) {
	for len(*k) > 0 && (len(*k) >= maxKicks || at.Sub((*k)[0].at) > kept) {
		if at.Sub((*k)[0].at) <= kept {
			forgotten++
		}
		(*k)[0] = kick{}
		*k = (*k)[1:]
	}
	*k = append(*k, kick{m, at})
	return forgotten
}

// Missed returns the kicks of the time since missed before now, with their ages.
func (k Kicks) Missed(now time.Time, missed time.Duration) (late []pb.Message) {
	for _, old := range k {
		if age := now.Sub(old.at); age <= min(missed, kept) {
			m := proto.CloneOf(old.m)
			m.SetAge(uint32(age.Milliseconds())) // the login may be as old
			late = append(late, m)
		}
	}
	return late
}
