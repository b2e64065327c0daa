package dbproxy

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy/expiry"
	"teamtalk/handlers/dbproxy/refusal"
	"teamtalk/proto/pb"
)

// files answers the requests about lists of offline files, and deletes old files from the
// lists.
type files struct {
	*runner
	store  im.FileStore
	expiry expiry.Metrics
}

func newFiles(r *runner, store im.FileStore, reg prometheus.Registerer) *files {
	return &files{runner: r, store: store, expiry: expiry.NewMetrics(reg)}
}

// register registers the requests about one receiver's list, which run in order: a client
// that is notified of a file and then requests its list finds the file in it. Changes are
// answered only if their sender waits for it.
func (fs *files) register() {
	r := fs.runner
	handle(r, work[*pb.IMFileHasOfflineReq]{user: userOf[*pb.IMFileHasOfflineReq],
		run: fs.offlineFiles})
	handle(r, work[*pb.IMFileAddOfflineReq]{user: receiverOf[*pb.IMFileAddOfflineReq],
		run: fs.addOfflineFile})
	handle(r, work[*pb.IMFileDelOfflineReq]{user: receiverOf[*pb.IMFileDelOfflineReq],
		run: fs.deleteOfflineFile})
	fs.registerList()
}

// receiverOf returns the key of requests about a receiver's list.
func receiverOf[P interface{ GetToUserId() uint32 }](m P) uint64 { return uint64(m.GetToUserId()) }

// offlineFiles returns the list of a user. The message server adds the addresses of the
// file servers.
func (fs *files) offlineFiles(ctx context.Context, m *pb.IMFileHasOfflineReq) (pb.Message, error) {
	list, err := fs.store.OfflineFiles(ctx, m.GetUserId())
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
func (fs *files) addOfflineFile(ctx context.Context, m *pb.IMFileAddOfflineReq) (pb.Message,
	error) {
	err := fs.store.AddOfflineFile(ctx, im.OfflineFile{From: m.GetFromUserId(),
		To: m.GetToUserId(), Task: m.GetTaskId(), Name: m.GetFileName(),
		Size: m.GetFileSize()})
	return changed(m), err
}

// changed returns the answer to a change of a list; nil when its sender waits for none.
func changed(m pb.Attachment) pb.Message {
	if !m.HasAttachData() {
		return nil
	}
	rsp := pb.IMFileListRepairRsp_builder{Forgotten: proto.Uint32(0)}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp
}

// deleteOfflineFile removes a file from its receiver's list. The message server sets the
// receiver; clients cannot choose it.
func (fs *files) deleteOfflineFile(ctx context.Context, m *pb.IMFileDelOfflineReq) (pb.Message,
	error) {
	err := fs.store.DeleteOfflineFile(ctx, m.GetFromUserId(), m.GetToUserId(), m.GetTaskId())
	return changed(m), err
}

// expiryKey is the task key of the expiry runs. No user has this id.
const expiryKey = 1<<63 + 1

// expire is Server.RunFileExpiry.
func (fs *files) expire(ctx context.Context, keep time.Duration) {
	expiry.Run(ctx, fs.stopped, func() bool { return fs.expireOnce(ctx, keep) })
}

// expireOnce posts one run and waits for it, but no longer than ctx: a pool that is
// closed drops its tasks. Drain waits for the run, too. It reports whether the run
// succeeded.
func (fs *files) expireOnce(ctx context.Context, keep time.Duration) bool {
	if fs.begin() != nil {
		return false // draining: expire returns next
	}
	over := make(chan bool, 1)
	err := fs.tasks.Do(expiryKey, func(ctx context.Context) {
		done := false
		defer fs.end()
		defer func() { over <- done }() // also when it panics
		done = fs.expireFiles(ctx, keep)
	})
	if err != nil {
		fs.end()
		fs.expiry.Runs.WithLabelValues("busy").Inc()
		fs.logExpiry(err)
		return false
	}
	select {
	case done := <-over:
		return done
	case <-ctx.Done():
		return false
	}
}

func (fs *files) expireFiles(ctx context.Context, keep time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, fs.timeout)
	defer cancel()
	before := max(fs.storeTime().Add(-keep).Unix(), 0)
	n, err := fs.store.ExpireOfflineFiles(ctx, uint32(before))
	fs.expiry.Expired.Add(float64(n))
	if err != nil {
		fs.expiry.Runs.WithLabelValues("failed").Inc()
		fs.logExpiry(err)
		return false
	}
	fs.expiry.Runs.WithLabelValues("done").Inc()
	if n > 0 {
		fs.log.Info("expired offline files deleted", "role", "dbproxy", "count", n)
	}
	return true
}

func (fs *files) logExpiry(err error) {
	fs.log.Log(context.Background(), refusal.Level(im.KindOf(err)),
		"expired offline files not deleted", "role", "dbproxy", "err", err)
}
