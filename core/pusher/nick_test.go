package pusher

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// nickScene returns a scene with a clock, and a function that sends a message and
// compares the push and the number of pushes without a nick.
func nickScene(t *testing.T) (s *scene, now *time.Time,
	want func(what, flash string, nameless float64)) {
	s = newScene(t)
	at := time.Now()
	s.p.opt.Now = func() time.Time { return at }
	return s, &at, func(what, flash string, nameless float64) {
		t.Helper()
		s.p.Stored(single(t, "text"), nil)
		if got := s.one().GetFlash(); got != flash {
			t.Errorf("%s: shows %q, want %q", what, got, flash)
		}
		if n := testutil.ToFloat64(s.p.metrics.nameless); n != nameless {
			t.Errorf("%s: %v counted as nameless", what, n)
		}
	}
}

func TestNickIsAskedOnlyForPushThatIsSent(t *testing.T) {
	s, _, want := nickScene(t)
	s.p.Stored(single(t, "text"), nil) // no phone
	if len(s.db.asked) != 1 || s.p.nicks.byUser.Len() != 0 {
		t.Errorf("without a phone db_proxy was asked %v", s.db.asked)
	}
	s.unread[2] = 1
	want("with a phone", "Ann:text", 0)
}

func TestNickIsCachedForAMinute(t *testing.T) {
	s, now, want := nickScene(t)
	s.unread[2] = 1
	want("asked for", "Ann:text", 0)
	s.nick = "Anna"
	*now = now.Add(nickAge - 1)
	want("from the cache", "Ann:text", 0)
	*now = now.Add(1)
	want("asked for again", "Anna:text", 0)
}

// TestPushWithoutNickShowsNothing checks that the absence of a user is cached, a failure
// is not.
func TestPushWithoutNickShowsNothing(t *testing.T) {
	s, now, want := nickScene(t)
	s.unread[2], s.nick = 1, ""
	want("no such user", showNameless, 1)
	s.nick = "Ann"
	want("the absence is cached", showNameless, 2)

	*now = now.Add(nickAge)
	s.db.answer = func(req pb.Message) (pb.Message, error) {
		if _, ok := req.(*pb.IMUsersInfoReq); ok {
			return nil, im.Errorf(im.Unavailable, "away")
		}
		return s.dbAnswer(req)
	}
	want("no answer", showNameless, 3)
	s.db.answer = s.dbAnswer
	want("the failure is not cached", "Ann:text", 3)
}

func TestNickInFallsBackToLoginName(t *testing.T) {
	for _, test := range []struct{ nick, name, want string }{
		{"Ann", "ann", "Ann"},
		{"", "ann", "ann"},
		{" \n", "ann", "ann"},
		{"\xff", "ann", "ann"},
		{"", "", ""},
		{strings.Repeat("长", maxNick), "x", strings.Repeat("长", maxNick)},
		{strings.Repeat("长", maxNick+1), "x", strings.Repeat("长", maxNick) + "…"},
	} {
		rsp := pb.IMUsersInfoRsp_builder{UserInfoList: []*pb.UserInfo{
			person(7, "other", "other"), person(1, test.nick, test.name)}}.Build()
		if got := nickIn(rsp, 1); got != test.want {
			t.Errorf("%q, %q: %q, want %q", test.nick, test.name, got, test.want)
		}
	}
}
