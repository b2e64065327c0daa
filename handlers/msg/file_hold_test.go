package msg

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/link"
	"teamtalk/core/session"
	"teamtalk/proto/pb"
)

// uploading runs f with a PC of user 1 that reports an offline file for user 2, and with a PC
// of user 2, without the changes of the list so far.
func uploading(t *testing.T, opt Options, f func(w *world, file *fileStand, a, b *device)) {
	inWorld(t, opt, func(w *world) {
		file := w.ourFileServer("10.0.0.1")
		file.upload(1, 1, 2)
		a, b := w.user(0, 1, win), w.user(1, 2, win)
		a.got()
		b.got()
		w.db.sent, w.db.sentKeys = nil, nil
		f(w, file, a, b)
	})
}

// changes returns the changes of the list that db_proxy got, and forgets them. Their key
// must be the receiver's.
func (w *world) changes() []pb.Message {
	w.t.Helper()
	synctest.Wait()
	w.db.mu.Lock()
	defer w.db.mu.Unlock()
	for _, key := range w.db.sentKeys {
		if key != 2 {
			w.t.Errorf("a change has the key %d", key)
		}
	}
	list := w.db.sent
	w.db.sent, w.db.sentKeys = nil, nil
	return list
}

// listed is the change that lists the file of uploading.
func listed(f *fileStand) *pb.IMFileAddOfflineReq {
	want := addOffline(2, f.task(1))
	want.SetFromUserId(1)
	return want
}

// TestFileListMeetsNoDBProxy: a file that is reported, or taken, while no db_proxy is up is
// listed, or taken off the list, when one is up again, once, although its client has left.
func TestFileListMeetsNoDBProxy(t *testing.T) {
	uploading(t, Options{}, func(w *world, f *fileStand, a, b *device) {
		w.db.become("down")
		a.send(5, addOffline(2, f.senderTask(1)))
		b.want(pb.CmdFileNotify) // that it waits, as far as a db_proxy knows
		a.hangUp()
		time.Sleep(50 * time.Second)
		w.db.become("up")
		time.Sleep(2 * session.TickInterval)
		got := w.changes()
		if len(got) != 1 {
			t.Fatalf("db_proxy got %v, want one change", got)
		}
		same(t, got[0], listed(f))

		w.db.become("down")
		b.send(6, pb.IMFileDelOfflineReq_builder{FromUserId: proto.Uint32(1),
			ToUserId: proto.Uint32(2), TaskId: proto.String(f.task(1))}.Build())
		time.Sleep(3 * time.Second)
		w.db.become("up")
		time.Sleep(2 * session.TickInterval)
		if got = w.changes(); len(got) != 1 || got[0].Command() != pb.CmdFileDelOfflineReq {
			t.Errorf("db_proxy got %v, want one change", got)
		}
		wantNoneHeld(w)
		if n := w.counted("files_refused_total", "dbproxy"); n != 0 {
			t.Errorf("%v counted", n)
		}
	})
}

// TestFileListInDoubt: a change whose db_proxy is lost before the answer is sent again, so
// that a C++ db_proxy, which perhaps has it, does not list the file twice.
func TestFileListInDoubt(t *testing.T) {
	uploading(t, Options{}, func(w *world, f *fileStand, a, _ *device) {
		w.db.also = func(m pb.Message) (pb.Message, error) {
			if _, first := m.(*pb.IMFileAddOfflineReq); first {
				return nil, errLinkDied
			}
			return nil, nil
		}
		a.send(5, addOffline(2, f.senderTask(1)))
		time.Sleep(time.Second)
		got := w.changes()
		if len(got) != 2 {
			t.Fatalf("db_proxy got %v, want the change and another one", got)
		}
		same(t, got[0], listed(f))
		same(t, got[1], pb.IMFileListRepairReq_builder{List: []*pb.ListedFile{
			pb.ListedFile_builder{FromUserId: proto.Uint32(1), ToUserId: proto.Uint32(2),
				TaskId: proto.String(f.task(1)), FileName: proto.String("report.pdf"),
				FileSize: proto.Uint32(1 << 31)}.Build()}}.Build())
		wantNoneHeld(w)
	})
}

// TestFileListOfCPP: a C++ db_proxy answers no change. It gets one, and a question that it
// ignores, and nothing counts as lost.
func TestFileListOfCPP(t *testing.T) {
	uploading(t, Options{}, func(w *world, f *fileStand, a, _ *device) {
		w.db.also = func(m pb.Message) (pb.Message, error) {
			if changesFiles(m) {
				return nil, im.WithKind(im.Unavailable, "no answer", &link.Overdue{})
			}
			return nil, nil
		}
		a.send(5, addOffline(2, f.senderTask(1)))
		time.Sleep(2 * time.Minute)
		if got := w.changes(); len(got) != 2 || got[1].Command() != pb.CmdFileListRepairReq {
			t.Errorf("db_proxy got %v", got)
		}
		wantNoneHeld(w)
		if n := w.counted("files_refused_total", "dbproxy"); n != 0 {
			t.Errorf("%v counted", n)
		}
	})
}

// TestFileListGivenUp: a change is given up and counted after a minute, and at once when
// db_proxy refuses it, or when nothing is held.
func TestFileListGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		hold time.Duration
		err  error
		wait time.Duration
	}{
		"late":    {0, errNoneUp, 2 * time.Minute},
		"refused": {0, im.Errorf(im.Denied, "too many files"), 0},
		"off":     {-1, errNoneUp, 0},
	} {
		t.Run(name, func(t *testing.T) {
			uploading(t, Options{Hold: c.hold}, func(w *world, f *fileStand, a, _ *device) {
				w.db.also = func(m pb.Message) (pb.Message, error) {
					if changesFiles(m) {
						return nil, c.err
					}
					return nil, nil
				}
				a.send(5, addOffline(2, f.senderTask(1)))
				time.Sleep(c.wait)
				wantNoneHeld(w)
				if n := w.counted("files_refused_total", "dbproxy"); n != 1 {
					t.Errorf("%v counted", n)
				}
			})
		})
	}
}
