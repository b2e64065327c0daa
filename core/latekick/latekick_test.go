package latekick

import (
	"testing"
	"time"

	"teamtalk/proto/pb"
)

// TestBounds: old kicks are forgotten, and the oldest when there are too many. Those of a time are
// returned with their ages.
func TestBounds(t *testing.T) {
	var k Kicks
	now := time.Unix(1_700_000_000, 0)
	if n := k.Keep(&pb.IMServerKickUser{}, now); n != 0 {
		t.Errorf("%d forgotten for the first one", n)
	}
	now = now.Add(kept + time.Second)
	if n := k.Keep(&pb.IMServerKickUser{}, now); n != 0 || len(k) != 1 {
		t.Errorf("an old one counts as forgotten: %d, %d kept", n, len(k))
	}
	for range maxKicks - 1 {
		k.Keep(&pb.IMServerKickUser{}, now)
	}
	if n := k.Keep(&pb.IMServerKickUser{}, now.Add(time.Second)); n != 1 || len(k) != maxKicks {
		t.Errorf("%d forgotten, %d kept", n, len(k))
	}
	late := k.Missed(now.Add(3*time.Second), 2*time.Second)
	if len(late) != 1 || late[0].(*pb.IMServerKickUser).GetAge() != 2000 {
		t.Errorf("missed within 2 s: %v", late)
	}
	if n := len(k.Missed(now.Add(2*kept), time.Hour)); n != 0 {
		t.Errorf("%d of them are too old", n)
	}
}
