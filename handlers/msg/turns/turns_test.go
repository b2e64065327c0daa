package turns

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"teamtalk/core/mono"
	"teamtalk/core/session"
	"teamtalk/handlers/msg/missing"
	"teamtalk/proto/pb"
)

// nowhere is a db_proxy that has none of the messages that are missing.
type nowhere struct{}

func (nowhere) Search(_ missing.Conversation, _ []uint32,
	done func(found []*pb.MsgData, err error)) bool {
	go done(nil, nil)
	return true
}

// testOptions returns the options of Turns whose missing messages are nowhere.
func testOptions(deliver func(t Turn)) Options {
	return Options{Now: time.Now, AfterFunc: mono.AfterFunc, Deliver: deliver, Missing: nowhere{},
		Online: session.NewRegistry(),
		Since:  func(time.Duration) uint64 { return session.NextID() }}
}

// arrival is a message on its way: it arrives after the others of its way.
type arrival struct {
	id, prev uint32
	after    time.Duration // after the one before it
}

// waysOf spreads the messages 1 to n over two ways with random pauses. Those in lost never
// arrive.
func waysOf(r *rand.Rand, n uint32, pause time.Duration, lost map[uint32]bool) (ways [2][]arrival) {
	for id := uint32(1); id <= n; id++ {
		if lost[id] {
			continue
		}
		w := &ways[r.IntN(2)]
		*w = append(*w, arrival{id, id - 1, time.Duration(r.Int64N(int64(pause)))})
	}
	return ways
}

// play has the messages arrive in several conversations, and returns the ids in the order
// of their delivery, by conversation.
func play(seed uint64, conversations int, n uint32, lost map[uint32]bool) (got [][]uint32,
	ts *Turns) {
	got = make([][]uint32, conversations)
	ts = New(testOptions(func(t Turn) {
		to := t.M.ToSessionID - 2
		got[to] = append(got[to], t.M.MsgID) // its shard's lock is held
	}))
	for c := range conversations {
		r := rand.New(rand.NewPCG(seed, uint64(c)))
		for _, way := range waysOf(r, n, 30*time.Millisecond, lost) {
			go func() {
				for _, a := range way {
					time.Sleep(a.after)
					ts.Take(Turn{M: &pb.MsgData{FromUserID: 1, ToSessionID: uint32(2 + c),
						MsgID: a.id, PrevID: a.prev, HasPrevID: true,
						Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT}})
				}
			}()
		}
	}
	time.Sleep(10 * time.Minute)
	synctest.Wait()
	return got, ts
}

// TestTurnsKeepTheOrder: whatever the interleaving of two ways, each message is delivered
// once and in the order of ids. Of messages that are lost, none but the next ones wait.
func TestTurnsKeepTheOrder(t *testing.T) {
	lost := map[uint32]bool{3: true, 20: true, 21: true, 60: true}
	for seed := range uint64(10) {
		for _, gone := range []map[uint32]bool{nil, lost} {
			synctest.Test(t, func(t *testing.T) {
				const n = 80
				got, ts := play(seed, 8, n, gone)
				for c, ids := range got {
					if len(ids) != n-len(gone) || !slices.IsSorted(ids) ||
						len(slices.Compact(slices.Clone(ids))) != len(ids) {
						t.Fatalf("seed %d, conversation %d: delivered %v", seed, c, ids)
					}
				}
				if ts.waiting.Load() != 0 || ts.bytes.Load() != 0 {
					t.Fatalf("seed %d: %d messages of %d bytes still wait", seed,
						ts.waiting.Load(), ts.bytes.Load())
				}
			})
		}
	}
}

// FuzzTurns takes a script of arrivals in one conversation: an id, and how far before it
// its predecessor is, 0 for a message that has none, 1 for one from a C++ server. Those of
// C++ servers are delivered as often as they arrive, the others once at most, and in the
// order of their ids.
func FuzzTurns(f *testing.F) {
	f.Add([]byte{1, 0, 3, 1, 2, 1})
	f.Add([]byte{9, 9, 9, 9, 0, 1, 255, 255})
	f.Fuzz(func(t *testing.T, script []byte) {
		synctest.Test(t, func(t *testing.T) {
			last, foreign, arrived := uint32(0), 0, map[uint32]bool{}
			ts := New(testOptions(func(d Turn) {
				if !d.M.HasPrevID {
					foreign--
				} else if d.M.MsgID <= last {
					t.Fatalf("%d was delivered after %d", d.M.MsgID, last)
				}
				last = max(last, d.M.MsgID)
			}))
			// A message that arrives again after keep is delivered again.
			for end := time.Now().Add(keep / 2); len(script) > 1 && time.Now().Before(end); {
				id, back := uint32(script[0])+1, uint32(script[1])
				m := &pb.MsgData{FromUserID: 1, ToSessionID: 2, MsgID: id, HasPrevID: back != 1,
					Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT}
				if back != 0 {
					m.PrevID = id - back // perhaps above id
				}
				if back == 1 {
					foreign++
				}
				arrived[id] = true
				ts.Take(Turn{M: m})
				time.Sleep(time.Duration(back) * time.Millisecond)
				script = script[2:]
			}
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			if foreign != 0 || len(arrived) > 0 && last != slices.Max(slices.Collect(
				maps.Keys(arrived))) {
				t.Fatalf("%d more of C++ servers arrived, and %d was delivered last of %v", foreign,
					last, arrived)
			}
			if ts.waiting.Load() != 0 || ts.bytes.Load() != 0 {
				t.Fatal("messages wait for ever")
			}
		})
	})
}

// TestHeldMessagesSurviveAFlood: a conversation with a message that waits is remembered
// although more conversations are in use than fit.
func TestHeldMessagesSurviveAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []uint32
		ts := New(testOptions(func(d Turn) {
			if d.M.ToSessionID == 2 {
				got = append(got, d.M.MsgID)
			}
		}))
		for i := range ts.shards {
			ts.shards[i].known.Max = 8
		}
		take := func(to, id uint32) {
			ts.Take(Turn{M: &pb.MsgData{FromUserID: 1, ToSessionID: to, MsgID: id, PrevID: id - 1,
				HasPrevID: true, Type: pb.MsgType_MSG_TYPE_SINGLE_TEXT}})
		}
		take(2, 2)
		for to := range uint32(4 * 8 * shards) {
			take(to+3, 1)
		}
		take(2, 1)
		if !slices.Equal(got, []uint32{1, 2}) || ts.Waiting() != 0 {
			t.Errorf("delivered %v, and %d wait", got, ts.Waiting())
		}
	})
}
