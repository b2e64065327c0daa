package dbproxy_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy"
	"teamtalk/proto/pb"
)

func addFile(from, to uint32, task string) *pb.IMFileAddOfflineReq {
	return pb.IMFileAddOfflineReq_builder{FromUserId: &from, ToUserId: &to, TaskId: &task,
		FileName: proto.String("报告.pdf"), FileSize: proto.Uint32(4294967295)}.Build()
}

func deleteFile(from, to uint32, task string) *pb.IMFileDelOfflineReq {
	return pb.IMFileDelOfflineReq_builder{FromUserId: &from, ToUserId: &to, TaskId: &task}.Build()
}

// wantFiles requests the list of a user, on the connection of the earlier requests about
// it.
func (p *peer) wantFiles(seq uint16, user uint32, tasks ...string) {
	p.t.Helper()
	rsp := ask[*pb.IMFileHasOfflineRsp](p, seq,
		pb.IMFileHasOfflineReq_builder{UserId: &user, AttachData: []byte("back")}.Build())
	var got []string
	for _, f := range rsp.GetOfflineFileList() {
		got = append(got, f.GetTaskId())
		if f.GetFileName() != "报告.pdf" || f.GetFileSize() != 4294967295 || f.GetFromUserId() == 0 {
			p.t.Errorf("file %v", f)
		}
	}
	if !slices.Equal(got, tasks) || rsp.GetUserId() != user ||
		string(rsp.GetAttachData()) != "back" || len(rsp.GetIpAddrList()) != 0 {
		p.t.Errorf("answer %v, want transfers %v", rsp, tasks)
	}
}

// TestFiles: requests about a receiver's list run in order, without waiting for answers.
// Only IMFileHasOfflineReq is answered.
func TestFiles(t *testing.T) {
	p := open(t, options{}).dial()
	p.wantFiles(1, 2)
	for _, m := range []pb.Message{addFile(1, 2, "a"), addFile(3, 2, "b"), addFile(1, 2, "a"),
		addFile(1, 3, "c")} {
		p.send(2, m)
	}
	p.wantFiles(3, 2, "a", "b")
	p.wantFiles(4, 3, "c")
	for _, m := range []pb.Message{deleteFile(1, 2, "b"), deleteFile(3, 1, "b"),
		deleteFile(1, 2, "a"), deleteFile(1, 2, "a"), deleteFile(9, 9, "../x")} {
		p.send(5, m)
	}
	p.wantFiles(6, 2, "b")
	p.send(7, deleteFile(3, 2, "b"))
	p.wantFiles(8, 2)
	// A file that cannot be added is ignored, and the requests after it are not.
	for _, m := range []pb.Message{addFile(1, 4, "no/task"),
		addFile(1, 4, strings.Repeat("x", im.MaxTaskID+1)), addFile(1, 99, "d"),
		addFile(99, 4, "d"), addFile(1, 4, "e")} {
		p.send(9, m)
	}
	p.wantFiles(10, 4, "e")
}

// TestFilesAnswered: a change with an attachment is answered, or refused.
func TestFilesAnswered(t *testing.T) {
	p := open(t, options{}).dial()
	p.send(1, pb.IMRoleSet_builder{Master: proto.Uint32(0), Features: proto.Uint32(
		uint32(pb.ServerFeature_SERVER_FEATURE_REFUSALS))}.Build())
	add, bad, del := addFile(1, 2, "a"), addFile(1, 99, "a"), deleteFile(1, 2, "a")
	add.SetAttachData([]byte("back"))
	bad.SetAttachData([]byte("back"))
	del.SetAttachData([]byte("back"))
	for seq, m := range []pb.Message{add, add, del, del, add} {
		rsp := ask[*pb.IMFileListRepairRsp](p, uint16(seq+2), m)
		if string(rsp.GetAttachData()) != "back" {
			t.Errorf("answer %v", rsp)
		}
	}
	p.wantFiles(8, 2) // a file that was taken is not listed again
	m := ask[*pb.IMRequestRefused](p, 9, bad)
	if string(m.GetAttachData()) != "back" || m.GetElsewhere() {
		t.Errorf("answer %v", m)
	}
}

// TestFilesMany: the longest list, with the longest names, fits into one frame.
func TestFilesMany(t *testing.T) {
	h := open(t, options{})
	p := h.dial()
	name := strings.Repeat("\U0001f4c4", im.MaxFileName)
	n := 0
	for from := uint32(1); from <= 7; from++ {
		for range im.MaxFilesBetween {
			n++
			task := strings.Repeat("x", im.MaxTaskID-4) + string([]byte{byte('0' + n/1000%10),
				byte('0' + n/100%10), byte('0' + n/10%10), byte('0' + n%10)})
			m := addFile(from, 9, task)
			m.SetFileName(name)
			p.send(1, m)
		}
	}
	rsp := ask[*pb.IMFileHasOfflineRsp](p, 2,
		pb.IMFileHasOfflineReq_builder{UserId: proto.Uint32(9)}.Build())
	body, err := rsp.AppendBody(nil)
	if len(rsp.GetOfflineFileList()) != im.MaxOfflineFiles || err != nil || len(body) > 640<<10 {
		t.Errorf("%d files in %d bytes, %v", len(rsp.GetOfflineFileList()), len(body), err)
	}
}

// expiryStore is a store that implements only ExpireOfflineFiles and Now.
type expiryStore struct {
	im.Store
	mu     sync.Mutex
	before []time.Time
	err    error
	panics bool
	time   time.Time // of the store; zero: time.Now
}

func (s *expiryStore) Now() time.Time {
	if s.time.IsZero() {
		return time.Now()
	}
	return s.time
}

func (s *expiryStore) ExpireOfflineFiles(_ context.Context, before uint32) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = append(s.before, time.Unix(int64(before), 0))
	if s.panics {
		panic("broken")
	}
	return 2, s.err
}

func (s *expiryStore) set(err error, panics bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.panics = err, panics
}

// take returns the time limits of the runs since the last call.
func (s *expiryStore) take() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.before
	s.before = nil
	return b
}

// recovering runs each task in a goroutine and recovers from panics, as the pool does.
type recovering struct{ tasks }

func (r *recovering) Do(key uint64, task func(ctx context.Context)) error {
	return r.tasks.Do(key, func(ctx context.Context) {
		defer func() { _ = recover() }()
		task(ctx)
	})
}

// TestRunFileExpiry: a run takes place at once, then daily, and an hour after a failed
// run, until Drain.
func TestRunFileExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		reg, pool, store := prometheus.NewRegistry(), &recovering{}, &expiryStore{}
		s := newServer(dbproxy.Options{Store: store, Tasks: pool, Registerer: reg,
			Log: slog.New(slog.NewTextHandler(&log, nil))})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.RunFileExpiry(t.Context(), 30*24*time.Hour)
		}()
		after := func(d time.Duration, runs int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			got := store.take()
			if len(got) != runs {
				t.Fatalf("%d runs, want %d", len(got), runs)
			}
			if runs > 0 {
				if age := time.Since(got[len(got)-1]); age < 30*24*time.Hour ||
					age > 33*24*time.Hour {
					t.Errorf("files of %v expire", age)
				}
			}
		}
		after(time.Second, 1)
		after(72*time.Hour, 3)
		store.set(errors.New("no disk"), false)
		after(24*time.Hour, 1)
		store.set(nil, false)
		after(time.Hour, 1)
		store.set(nil, true)
		after(24*time.Hour, 1)
		store.set(nil, false)
		after(time.Hour, 1)
		pool.full.Store(true)
		after(24*time.Hour, 0)
		pool.full.Store(false)
		after(time.Hour, 1)
		after(23*time.Hour, 0)
		if err := s.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-ended
		after(48*time.Hour, 0)
		for _, want := range []string{"no disk", "full", "count=2"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("log has no %q: %s", want, log.String())
			}
		}
	})
}

// TestRunFileExpiryBeforeTime: with a database's clock of 1970 no file expires.
func TestRunFileExpiryBeforeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &expiryStore{time: time.Unix(60, 0)}
		s := newServer(dbproxy.Options{Store: store, Tasks: &tasks{}})
		ctx, cancel := context.WithCancel(t.Context())
		go s.RunFileExpiry(ctx, time.Hour)
		synctest.Wait()
		cancel()
		synctest.Wait()
		if got := store.take(); len(got) != 1 || got[0].Unix() != 0 {
			t.Errorf("runs for %v", got)
		}
	})
}
