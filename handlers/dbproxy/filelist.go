package dbproxy

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy/spoolowner"
	"teamtalk/proto/pb"
)

// File servers read the list of all offline files, and repair it where it differs from
// the files that they hold: see handlers/file. These requests run one at a time, so that
// the other workers, and most of the store's capacity, remain for clients.

// listKey is the task key of these requests. No user has this id.
const listKey = 1<<63 + 2

// maxRepairs is the largest number of files in one request. More would not be finished
// within Options.Timeout.
const maxRepairs = 200

// registerList registers the requests about the list of all offline files. A request
// that fails is not answered, so that the file server never acts on half an answer.
func (fs *files) registerList() {
	r := fs.runner
	handle(r, work[*pb.IMFileListReq]{user: func(*pb.IMFileListReq) uint64 { return listKey },
		run: fs.filePage})
	handle(r, work[*pb.IMFileListRepairReq]{user: func(*pb.IMFileListRepairReq) uint64 {
		return listKey
	}, run: fs.repairFiles})
}

// filePage returns a page of the list. It contains ages instead of times, because clocks
// differ. A file server that asks for the right to forget files gets its epoch with it.
func (fs *files) filePage(ctx context.Context, m *pb.IMFileListReq) (pb.Message, error) {
	rsp := &pb.IMFileListRsp{}
	if m.HasOwner() {
		epoch, err := spoolowner.Keep(ctx, fs.store, m.GetOwner())
		if err != nil {
			return nil, err
		}
		rsp.SetEpoch(epoch)
	}
	list, last, err := fs.store.OfflineFilePage(ctx, m.GetAfter())
	if err != nil {
		return nil, err
	}
	now := fs.storeTime()
	files := make([]*pb.ListedFile, len(list))
	for i, f := range list {
		age := max(now.Sub(time.Unix(int64(f.Created), 0))/time.Second, 0)
		files[i] = pb.ListedFile_builder{FromUserId: proto.Uint32(f.From),
			ToUserId: proto.Uint32(f.To), TaskId: proto.String(f.Task),
			Age: proto.Uint32(uint32(age))}.Build()
	}
	rsp.SetFiles(files)
	rsp.SetLast(last)
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

// repairFiles lists files that are missing from the list, and removes others from it.
// When it fails midway, the earlier changes remain.
func (fs *files) repairFiles(ctx context.Context, m *pb.IMFileListRepairReq) (pb.Message, error) {
	if n := len(m.GetList()) + len(m.GetForget()); n > maxRepairs {
		return nil, im.Errorf(im.Invalid, "%d files to be repaired, at most %d", n, maxRepairs)
	}
	rsp := &pb.IMFileListRepairRsp{}
	results := make([]pb.ListResult, 0, len(m.GetList()))
	for _, f := range m.GetList() {
		result, err := fs.listFile(ctx, f)
		if err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	forgotten, err := spoolowner.Forget(ctx, fs.store, m)
	if err != nil {
		return nil, err
	}
	rsp.SetResults(results)
	rsp.SetForgotten(forgotten)
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

// listFile adds a file to the list unless it is or was in it.
func (fs *files) listFile(ctx context.Context, f *pb.ListedFile) (pb.ListResult, error) {
	state, err := fs.store.OfflineFileState(ctx, f.GetFromUserId(), f.GetToUserId(), f.GetTaskId())
	switch {
	case err != nil:
		return 0, err
	case state == im.FileListed:
		return pb.ListResult_LIST_RESULT_THERE, nil
	case state == im.FileTaken:
		return pb.ListResult_LIST_RESULT_TAKEN, nil
	}
	err = fs.store.AddOfflineFile(ctx, im.OfflineFile{From: f.GetFromUserId(), To: f.GetToUserId(),
		Task: f.GetTaskId(), Name: f.GetFileName(), Size: f.GetFileSize()})
	switch im.KindOf(err) {
	case im.Invalid, im.Denied:
		return pb.ListResult_LIST_RESULT_REFUSED, nil
	}
	return pb.ListResult_LIST_RESULT_LISTED, err
}
