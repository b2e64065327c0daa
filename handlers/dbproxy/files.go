package dbproxy

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// handleFiles enters the list of files that wait for their receivers. Requests about one receiver's list run in order: who hears of a file and asks finds it. Only asking
// has an answer.
func (s *Server) handleFiles() {
	handle(s, work[*pb.IMFileHasOfflineReq]{user: userOf[*pb.IMFileHasOfflineReq], run: s.offlineFiles})
	handle(s, work[*pb.IMFileAddOfflineReq]{user: receiverOf[*pb.IMFileAddOfflineReq], run: s.addOfflineFile})
	handle(s, work[*pb.IMFileDelOfflineReq]{user: receiverOf[*pb.IMFileDelOfflineReq], run: s.deleteOfflineFile})
}

// receiverOf is the key of what concerns a receiver's list.
func receiverOf[P interface{ GetToUserId() uint32 }](m P) uint64 { return uint64(m.GetToUserId()) }

// offlineFiles lists what waits for a user. Where the file servers are the message server knows.
func (s *Server) offlineFiles(ctx context.Context, m *pb.IMFileHasOfflineReq) (pb.Message, error) {
	list, err := s.store.OfflineFiles(ctx, m.GetUserId())
	if err != nil {
		return nil, err
	}
	infos := make([]*pb.OfflineFileInfo, len(list))
	for i, f := range list {
		infos[i] = pb.OfflineFileInfo_builder{FromUserId: proto.Uint32(f.From), TaskId: proto.String(f.Task), FileName: proto.String(f.Name),
			FileSize: proto.Uint32(f.Size)}.Build()
	}
	rsp := pb.IMFileHasOfflineRsp_builder{UserId: proto.Uint32(m.GetUserId()), OfflineFileList: infos}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

// addOfflineFile notes a file whose upload its sender says is whole.
func (s *Server) addOfflineFile(ctx context.Context, m *pb.IMFileAddOfflineReq) (pb.Message, error) {
	return nil, s.store.AddOfflineFile(ctx, im.OfflineFile{From: m.GetFromUserId(), To: m.GetToUserId(), Task: m.GetTaskId(), Name: m.GetFileName(),
		Size: m.GetFileSize()})
}

// deleteOfflineFile takes a file off its receiver's list. Message servers say who the receiver is, clients do not.
func (s *Server) deleteOfflineFile(ctx context.Context, m *pb.IMFileDelOfflineReq) (pb.Message, error) {
	return nil, s.store.DeleteOfflineFile(ctx, m.GetFromUserId(), m.GetToUserId(), m.GetTaskId())
}

const (
	// expiryKey is the strand of RunFileExpiry's work: no user has this id.
	expiryKey = 1<<63 + 1
	// expiryEvery is how often old files are forgotten, and expiryAgain when it is tried again after a failure.
	expiryEvery = 24 * time.Hour
	expiryAgain = time.Hour
)

// fileMetrics are those of files.
type fileMetrics struct {
	runs    *prometheus.CounterVec
	expired prometheus.Counter
}

func newFileMetrics(reg prometheus.Registerer) fileMetrics {
	m := fileMetrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_dbproxy_file_expiries_total",
			Help: "Runs that forget files that waited too long, by result: done, failed, busy (not begun)."}, []string{"result"}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_dbproxy_files_expired_total", Help: "Files forgotten by such runs, fetched ones among them."}),
	}
	if reg != nil {
		reg.MustRegister(m.runs, m.expired)
	}
	return m
}

// RunFileExpiry forgets files (im.FileStore's ExpireOfflineFiles) that have waited longer than keep: at once, and then every day, until ctx ends or Drain is called; it
// returns when the last run is over. A run has a worker of Options.Tasks, as any request, and as long as a request may take. keep is at least a second.
func (s *Server) RunFileExpiry(ctx context.Context, keep time.Duration) {
	for {
		next := expiryEvery
		if !s.expireOnce(ctx, keep) {
			next = expiryAgain
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.stopped:
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// expireOnce has a worker do one run, and waits for it: in vain when the pool gives its tasks up, but no longer than ctx. Drain waits for it, too. It reports whether all of
// it was done.
func (s *Server) expireOnce(ctx context.Context, keep time.Duration) bool {
	if s.begin() != nil {
		return false // draining: RunFileExpiry is about to return
	}
	over := make(chan bool, 1)
	err := s.opt.Tasks.Do(expiryKey, func(ctx context.Context) {
		done := false
		defer s.end()
		defer func() { over <- done }() // also when it panics
		done = s.expireFiles(ctx, keep)
	})
	if err != nil {
		s.end()
		s.fileMetrics.runs.WithLabelValues("busy").Inc()
		s.logExpiry(err)
		return false
	}
	select {
	case done := <-over:
		return done
	case <-ctx.Done():
		return false
	}
}

func (s *Server) expireFiles(ctx context.Context, keep time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	before := max(s.opt.Now().Add(-keep).Unix(), 0)
	n, err := s.store.ExpireOfflineFiles(ctx, uint32(before))
	s.fileMetrics.expired.Add(float64(n))
	if err != nil {
		s.fileMetrics.runs.WithLabelValues("failed").Inc()
		s.logExpiry(err)
		return false
	}
	s.fileMetrics.runs.WithLabelValues("done").Inc()
	if n > 0 {
		s.log.Info("files that waited too long forgotten", "role", "dbproxy", "count", n)
	}
	return true
}

func (s *Server) logExpiry(err error) {
	s.log.Log(context.Background(), failureLevel(im.KindOf(err)), "files that waited too long not forgotten", "role", "dbproxy", "err", err)
}
