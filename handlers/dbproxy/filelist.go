package dbproxy

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
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

// handleFileList registers the requests about the list of all offline files. A request
// that fails is not answered, so that the file server never acts on half an answer.
func (s *Server) handleFileList() {
	handle(s, work[*pb.IMFileListReq]{user: func(*pb.IMFileListReq) uint64 { return listKey },
		run: s.filePage})
	handle(s, work[*pb.IMFileListRepairReq]{user: func(*pb.IMFileListRepairReq) uint64 {
		return listKey
	}, run: s.repairFiles})
}

// filePage returns a page of the list. It contains ages instead of times, because clocks
// differ.
func (s *Server) filePage(ctx context.Context, m *pb.IMFileListReq) (pb.Message, error) {
	list, last, err := s.store.OfflineFilePage(ctx, m.GetAfter())
	if err != nil {
		return nil, err
	}
	now := s.opt.Now()
	files := make([]*pb.ListedFile, len(list))
	for i, f := range list {
		age := max(now.Sub(time.Unix(int64(f.Created), 0))/time.Second, 0)
		files[i] = pb.ListedFile_builder{FromUserId: proto.Uint32(f.From),
			ToUserId: proto.Uint32(f.To), TaskId: proto.String(f.Task),
			Age: proto.Uint32(uint32(age))}.Build()
	}
	rsp := pb.IMFileListRsp_builder{Files: files, Last: proto.Uint32(last)}.Build()
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

// repairFiles lists files that are missing from the list, and removes others from it.
// When it fails midway, the earlier changes remain.
func (s *Server) repairFiles(ctx context.Context, m *pb.IMFileListRepairReq) (pb.Message, error) {
	if n := len(m.GetList()) + len(m.GetForget()); n > maxRepairs {
		return nil, im.Errorf(im.Invalid, "%d files to be repaired, at most %d", n, maxRepairs)
	}
	rsp := &pb.IMFileListRepairRsp{}
	results := make([]pb.ListResult, 0, len(m.GetList()))
	for _, f := range m.GetList() {
		result, err := s.listFile(ctx, f)
		if err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	forgotten := uint32(0)
	for _, f := range m.GetForget() {
		gone, err := s.store.ForgetOfflineFile(ctx, f.GetFromUserId(), f.GetToUserId(),
			f.GetTaskId())
		if err != nil {
			return nil, err
		}
		if gone {
			forgotten++
		}
	}
	rsp.SetResults(results)
	rsp.SetForgotten(forgotten)
	rsp.SetAttachData(m.GetAttachData())
	return rsp, nil
}

// listFile adds a file to the list unless it is or was in it.
func (s *Server) listFile(ctx context.Context, f *pb.ListedFile) (pb.ListResult, error) {
	state, err := s.store.OfflineFileState(ctx, f.GetFromUserId(), f.GetToUserId(), f.GetTaskId())
	switch {
	case err != nil:
		return 0, err
	case state == im.FileListed:
		return pb.ListResult_LIST_RESULT_THERE, nil
	case state == im.FileTaken:
		return pb.ListResult_LIST_RESULT_TAKEN, nil
	}
	err = s.store.AddOfflineFile(ctx, im.OfflineFile{From: f.GetFromUserId(), To: f.GetToUserId(),
		Task: f.GetTaskId(), Name: f.GetFileName(), Size: f.GetFileSize()})
	switch im.KindOf(err) {
	case im.Invalid, im.Denied:
		return pb.ListResult_LIST_RESULT_REFUSED, nil
	}
	return pb.ListResult_LIST_RESULT_LISTED, err
}
