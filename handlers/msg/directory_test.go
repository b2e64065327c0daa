package msg

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/link"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// TestDirectoryIsShared: a client that asks for all entries while a request for them is
// in flight waits for the next one, together with all others that ask. Each gets the
// answer under its own id and seq. A request for changes is sent by itself.
func TestDirectoryIsShared(t *testing.T) {
	for _, sends := range []string{"typed", "encoded"} {
		t.Run(sends, func(t *testing.T) {
			inWorld(t, Options{}, func(w *world) {
				users := make([]*device, 6)
				for i := range users {
					users[i] = w.user(i%2, uint32(i+1), android)
				}
				newest := uint32(0) // a new one with each answer
				w.db.also = func(req pb.Message) (pb.Message, error) {
					newest++
					rsp := pb.IMAllUserRsp_builder{
						UserId:           proto.Uint32(req.(*pb.IMAllUserReq).GetUserId()),
						LatestUpdateTime: proto.Uint32(newest),
						AttachData:       []byte("call")}.Build()
					if sends == "typed" {
						return rsp, nil
					}
					return pb.Encode(rsp)
				}
				ask := func(i int, since uint32) {
					users[i].send(uint16(20+i),
						pb.IMAllUserReq_builder{UserId: proto.Uint32(99),
							LatestUpdateTime: proto.Uint32(since)}.Build())
					synctest.Wait()
				}
				w.db.hold, w.db.asked = true, nil
				ask(0, 0)
				ask(1, 0)
				ask(2, 0)
				ask(3, 5)
				if len(w.db.asked) != 2 {
					t.Fatalf("%d requests in flight, want one for all users and one for changes",
						len(w.db.asked))
				}
				w.db.letGo()
				synctest.Wait()
				ask(4, 0)
				synctest.Wait()
				for i, want := range []uint32{1, 3, 3, 2, 4} {
					got := users[i].want(pb.CmdAllUserRsp)
					rsp := got[0].m.(*pb.IMAllUserRsp)
					if got[0].seq != uint16(20+i) || rsp.GetUserId() != uint32(i+1) ||
						rsp.GetLatestUpdateTime() != want || rsp.HasAttachData() {
						t.Errorf("client %d got %v with seq %d, want answer %d", i, rsp,
							got[0].seq, want)
					}
				}
			})
		})
	}
}

// TestDirectoryFails: an error, or another answer than was asked for, reaches no client
// and is counted for each. A client that asks again gets an answer.
func TestDirectoryFails(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		a, b := w.user(0, 1, android), w.user(1, 2, android)
		req := func() pb.Message {
			return pb.IMAllUserReq_builder{UserId: proto.Uint32(0),
				LatestUpdateTime: proto.Uint32(0)}.Build()
		}
		for _, wrong := range []func(pb.Message) (pb.Message, error){
			func(pb.Message) (pb.Message, error) { return nil, errors.New("lost") },
			func(pb.Message) (pb.Message, error) { return &pb.IMHeartBeat{}, nil },
			// lacks required fields
			func(pb.Message) (pb.Message, error) { return &pb.IMAllUserRsp{}, nil },
		} {
			w.db.also = wrong
			for range maxQueries { // what failed is not counted as waiting
				a.send(5, req())
				b.send(5, req())
				synctest.Wait()
			}
			a.want()
			b.want()
		}
		w.db.also = func(m pb.Message) (pb.Message, error) {
			return pb.IMAllUserRsp_builder{UserId: proto.Uint32(1),
				LatestUpdateTime: proto.Uint32(1)}.Build(), nil
		}
		a.send(6, req())
		a.want(pb.CmdAllUserRsp)
	})
}

// encodedStand is a peer that answers one question encoded.
type encodedStand struct {
	Peer
	answer pb.Message
}

func (p encodedStand) CallEncoded(l *session.Loop, _ uint64, _ uint16, _ pb.Attachment,
	done func(pb.Message, error)) {
	l.PostResult(done, p.answer, nil)
}

// TestPassedOn: an encoded answer is forwarded as it is, without attach_data, and only if
// it answers the question.
func TestPassedOn(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		d := w.user(0, 1, android)
		e, err := pb.Encode(pb.IMUsersInfoRsp_builder{UserId: proto.Uint32(1),
			AttachData: []byte("call")}.Build())
		if err != nil {
			t.Fatal(err)
		}
		w.h.Connect(w.db, encodedStand{w.db, e}, w.route)
		d.send(9, pb.IMUsersInfoReq_builder{UserId: proto.Uint32(1)}.Build())
		got := d.want(pb.CmdUsersInfoRsp)
		if got[0].seq != 9 || got[0].m.(pb.Attachment).HasAttachData() {
			t.Errorf("got %v", got[0])
		}
		d.send(10, pb.IMUnreadMsgCntReq_builder{UserId: proto.Uint32(1)}.Build())
		d.want()
	})
}

// TestAnswerTooLongForALink: a client whose query cannot be answered, because the answer is
// longer than servers carry, is disconnected. The others wait on, and so does a client whose
// query failed for another reason.
func TestAnswerTooLongForALink(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		typed, shared, other := w.user(0, 1, ios), w.user(0, 2, ios), w.user(0, 3, ios)
		err := error(&link.Refusal{Reason: "the setting link.max_frame", TooLong: true})
		w.db.also = func(pb.Message) (pb.Message, error) { return nil, err }
		typed.send(5, pb.IMUsersInfoReq_builder{UserId: proto.Uint32(1)}.Build())
		shared.send(5, pb.IMAllUserReq_builder{UserId: proto.Uint32(2),
			LatestUpdateTime: proto.Uint32(0)}.Build())
		synctest.Wait()
		err = errors.New("the link ended")
		other.send(5, pb.IMUsersInfoReq_builder{UserId: proto.Uint32(3)}.Build())
		synctest.Wait()
		if !typed.isClosed() || !shared.isClosed() || other.isClosed() {
			t.Errorf("closed: %v and %v, the other one %v", typed.isClosed(), shared.isClosed(),
				other.isClosed())
		}
		if n := w.counted("queries_failed_total", "too_long"); n != 2 {
			t.Errorf("%v queries are counted as too_long, want 2", n)
		}
	})
}

// TestAnswerTooLongIsNotAskedForAllTheTime: a client that is disconnected because an answer
// is too long, and connects and asks again at once, does so every five seconds.
func TestAnswerTooLongIsNotAskedForAllTheTime(t *testing.T) {
	inWorld(t, Options{}, func(w *world) {
		asked := 0
		w.db.also = func(req pb.Message) (pb.Message, error) {
			if _, ok := req.(*pb.IMUsersInfoReq); !ok {
				return nil, nil
			}
			asked++
			return nil, &link.Refusal{Reason: "the setting link.max_frame", TooLong: true}
		}
		began := time.Now()
		for time.Since(began) < time.Minute {
			d := w.connect(0)
			d.send(1, loginReq(1, android))
			for !d.isClosed() {
				if len(d.got()) > 0 { // the login is answered
					d.send(2, pb.IMUsersInfoReq_builder{UserId: proto.Uint32(1)}.Build())
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
		if asked < 10 || asked > 13 {
			t.Errorf("asked %d times in a minute", asked)
		}
	})
}
