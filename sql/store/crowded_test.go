package store

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/proto/pb"
	"teamtalk/sql/store/conversation"
	"teamtalk/sql/store/members"
	"teamtalk/sql/store/outbox"
)

var crowd = flag.Int("crowd", 14_000, "groups around the user of BenchmarkCrowded")

// TestJoinedParts reads the groups of users in parts with few memberships.
func TestJoinedParts(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 5)
	var want []string
	for i, n := range []int{3, 0, 1, 1, 7} {
		for range n {
			want = append(want, fmt.Sprint(u[i], " ", newGroup(t, s, u[i])))
		}
	}
	slices.Sort(want)
	for _, most := range []int{1, 2, 3, 4, 5, 100} {
		var got []string
		asked, largest := 0, 0
		err := s.members.JoinedParts(t.Context(), u, most,
			func(part []uint32, joined []members.JoinedGroup) error {
				asked += len(part)
				if len(part) > 1 {
					largest = max(largest, len(joined))
				}
				for _, j := range joined {
					got = append(got, fmt.Sprint(j.User, " ", j.Group))
				}
				return nil
			})
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) || asked != len(u) || largest >= max(most, 1) {
			t.Errorf("up to %d: %q of %d users, %d in a part, %v; want %q", most, got, asked,
				largest, err, want)
		}
	}
}

// TestSessionsOfOtherGroups lists the conversations of a user whose newest entries are of groups
// that it is not in: C++ servers leave them.
func TestSessionsOfOtherGroups(t *testing.T) {
	e := newEnv(t)
	s := e.store(t)
	u := users(t, s, 3)
	own := newGroup(t, s, u...)
	send(t, s, append(texts(u[1], u[0], 1), groupTexts(u[1], own, 1)...)...)
	syncAll(t, s)
	for i := range 7 {
		if _, err := e.db.Exec("INSERT INTO IMRecentSession (userId,peerId,type,status,created,"+
			"updated) SELECT ?, ?, 2, 0, updated, updated+1+? FROM IMRecentSession WHERE userId=? "+
			"AND type=2 AND peerId=?", u[0], 1000+i, i/3, u[0], own); err != nil {
			t.Fatal(err)
		}
	}
	want := []uint32{u[1], own}
	slices.Sort(want)
	for limit := 1; limit <= 10; limit++ {
		list, err := s.RecentSessions(t.Context(), u[0], 0, limit)
		if err != nil {
			t.Fatal(err)
		}
		var peers []uint32
		for _, r := range list {
			peers = append(peers, r.Peer)
		}
		slices.Sort(peers)
		if len(peers) != min(limit, 2) || limit > 1 && !slices.Equal(peers, want) {
			t.Errorf("limit %d: conversations with %d, want %d", limit, peers, want)
		}
	}
}

// BenchmarkCrowded reads the lists of a user that others have put into 14,000 groups with an
// unread message of 4 KiB each.
//
//	go test ./sql/store -run '^$' -bench Crowded -benchtime 3x [-args -crowd 2000]
func BenchmarkCrowded(b *testing.B) {
	e := newEnv(b)
	s := e.store(b)
	u := users(b, s, 2)
	e.crowd(b, u, *crowd)
	b.Run("unread", func(b *testing.B) {
		measure(b, func() (rows, bytes int) {
			list, total, err := s.UnreadCounts(b.Context(), u[0], 1000)
			if err != nil || total != uint32(*crowd) {
				b.Fatalf("%d unread, %v", total, err)
			}
			for i := range list {
				bytes += len(list[i].Latest.Data)
			}
			return len(list), bytes
		})
	})
	b.Run("totals", func(b *testing.B) {
		measure(b, func() (rows, bytes int) {
			totals, err := s.UnreadTotals(b.Context(), u)
			if err != nil || totals[u[0]] != uint32(*crowd) {
				b.Fatalf("totals %v, %v", totals, err)
			}
			return len(totals), 0
		})
	})
	b.Run("recent", func(b *testing.B) {
		measure(b, func() (rows, bytes int) {
			list, err := s.RecentSessions(b.Context(), u[0], 0, 100)
			if err != nil {
				b.Fatal(err)
			}
			return len(list), 0
		})
	})
}

// measure runs f, and reports how much it returned.
func measure(b *testing.B, f func() (rows, bytes int)) {
	b.ReportAllocs()
	var rows, bytes int
	for b.Loop() {
		rows, bytes = f()
	}
	b.ReportMetric(float64(rows), "rows")
	b.ReportMetric(float64(bytes)/1e6, "MB/answer")
}

// crowd makes n groups of two users, each with one message of u[1], as rows and counts.
func (e *env) crowd(tb testing.TB, u []uint32, n int) {
	tb.Helper()
	now := time.Now().Unix()
	exec := func(q string, args ...any) {
		tb.Helper()
		q = "SET STATEMENT max_recursive_iterations=1000000 FOR " + q
		if _, err := e.db.Exec(q, args...); err != nil {
			tb.Fatal(err)
		}
	}
	seq := fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%d) ",
		n)
	exec("INSERT INTO IMGroup (id,name,creator,type,userCnt,status,lastChated,updated,created) "+
		seq+"SELECT i,'g',?,2,2,0,?+i,?,? FROM n", u[1], now, now, now)
	for _, member := range u {
		exec("INSERT INTO IMGroupMember (groupId,userId,status,created,updated,joinedAt,"+
			"joinMsgId) "+seq+"SELECT i,?,0,?,?,?,0 FROM n", member, now-1, now-1, now-1)
	}
	exec("INSERT INTO IMRecentSession (userId,peerId,type,status,created,updated) "+
		seq+"SELECT ?,i,2,0,?,?+i FROM n", u[0], now, now)
	for t := range uint32(8) {
		th := conversation.Thread{Group: true, ID: t}
		exec("INSERT INTO "+th.Table()+" (groupId,userId,msgId,content,type,status,updated,"+
			"created) "+seq+"SELECT i,?,1,REPEAT('x',4096),?,0,?,? FROM n WHERE i%8=?", u[1],
			pb.MsgType_MSG_TYPE_GROUP_TEXT, now, now, t)
	}
	c := redis.NewClient(&redis.Options{Addr: e.redis.Addr()})
	defer c.Close()
	if _, err := c.Pipelined(tb.Context(), func(p redis.Pipeliner) error {
		for i := range uint32(n) {
			p.HSet(tb.Context(), outbox.GroupKey(i+1), "count", 1)
			p.HSet(tb.Context(), outbox.ReadKey(u[0], i+1), "count", 0)
			p.HSet(tb.Context(), outbox.ReadKey(u[1], i+1), "count", 1)
		}
		return nil
	}); err != nil {
		tb.Fatal(err)
	}
}
