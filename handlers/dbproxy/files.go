package dbproxy

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// handleFiles registers the requests about lists of offline files. Requests about one
// receiver's list run in order: a client that is notified of a file and then requests its
// list finds the file in it. Only IMFileHasOfflineReq is answered.
func (s *Server) handleFiles() {
	handle(s, work[*pb.IMFileHasOfflineReq]{user: userOf[*pb.IMFileHasOfflineReq],
		run: s.offlineFiles})
	handle(s, work[*pb.IMFileAddOfflineReq]{user: receiverOf[*pb.IMFileAddOfflineReq],
		run: s.addOfflineFile})
	handle(s, work[*pb.IMFileDelOfflineReq]{user: receiverOf[*pb.IMFileDelOfflineReq],
		run: s.deleteOfflineFile})
}

// receiverOf returns the key of requests about a receiver's list.
func receiverOf[P interface{ GetToUserId() uint32 }](m P) uint64 { return uint64(m.GetToUserId()) }

// offlineFiles returns the list of a user. The message server adds the addresses of the
// file servers.
func (s *Server) offlineFiles(ctx context.Context, m *pb.IMFileHasOfflineReq) (pb.Message, error) {
	list, err := s.store.OfflineFiles(ctx, m.GetUserId())
	if err != nil {
		return nil, err
	}
	infos := make([]*pb.OfflineFileInfo, len(list))
	for i, f := range list {
		infos[i] = pb.OfflineFileInfo_builder{FromUserId: proto.Uint32(f.From),
			TaskId: proto.String(f.Task), FileName: proto.String(f.Name),
			FileSize: proto.Uint32(f.Size)}.Build()
	}
	rsp := pb.IMFileHasOfflineRsp_builder{UserId: proto.Uint32(m.GetUserId()),
		OfflineFileList: infos}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

// addOfflineFile adds a file whose sender reports the upload as complete.
func (s *Server) addOfflineFile(ctx context.Context, m *pb.IMFileAddOfflineReq) (pb.Message,
	error) {
	return nil, s.store.AddOfflineFile(ctx, im.OfflineFile{From: m.GetFromUserId(),
		To: m.GetToUserId(), Task: m.GetTaskId(), Name: m.GetFileName(),
		Size: m.GetFileSize()})
}

// deleteOfflineFile removes a file from its receiver's list. The message server sets the
// receiver; clients cannot choose it.
func (s *Server) deleteOfflineFile(ctx context.Context, m *pb.IMFileDelOfflineReq) (pb.Message,
	error) {
	return nil, s.store.DeleteOfflineFile(ctx, m.GetFromUserId(), m.GetToUserId(), m.GetTaskId())
}

const (
	// expiryKey is the task key of RunFileExpiry. No user has this id.
	expiryKey = 1<<63 + 1
	// expiryEvery is the interval of the expiry runs. expiryAgain is the interval after a
	// failed run.
	expiryEvery = 24 * time.Hour
	expiryAgain = time.Hour
)

// fileMetrics counts the expiry of files.
type fileMetrics struct {
	runs    *prometheus.CounterVec
	expired prometheus.Counter
}

func newFileMetrics(reg prometheus.Registerer) fileMetrics {
	m := fileMetrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_dbproxy_file_expiries_total",
			Help: "Runs that delete offline files older than the limit, by result: done, failed, " +
				"busy (not started)."}, []string{"result"}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_dbproxy_files_expired_total",
			Help: "Offline files deleted by these runs, including those that were fetched."}),
	}
	if reg != nil {
		reg.MustRegister(m.runs, m.expired)
	}
	return m
}

// RunFileExpiry deletes offline files (ExpireOfflineFiles of im.FileStore) that are older
// than keep: at once, and then every day, until ctx ends or Drain is called. It returns
// after the last run. A run is a task of Options.Tasks and ends after Options.Timeout, as
// any request. keep must be at least a second.
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

// expireOnce posts one run and waits for it, but no longer than ctx: a pool that is
// closed drops its tasks. Drain waits for the run, too. It reports whether the run
// succeeded.
func (s *Server) expireOnce(ctx context.Context, keep time.Duration) bool {
	if s.begin() != nil {
		return false // draining: RunFileExpiry returns next
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
		s.log.Info("expired offline files deleted", "role", "dbproxy", "count", n)
	}
	return true
}

func (s *Server) logExpiry(err error) {
	s.log.Log(context.Background(), failureLevel(im.KindOf(err)),
		"expired offline files not deleted", "role", "dbproxy", "err", err)
}
