package client

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"teamtalk/proto/pb"
)

// TestOfferOnce: the notify of a file that is passed on directly may come again, and is
// reported once.
func TestOfferOnce(t *testing.T) {
	s := newServer(t)
	a := open(t, s, "alice", nil)
	notify := func(task string, mode pb.TransferFileType) pb.Message {
		return pb.IMFileNotify_builder{FromUserId: proto.Uint32(bob), ToUserId: proto.Uint32(alice),
			FileName: proto.String("f"), FileSize: proto.Uint32(1), TaskId: &task,
			TransMode: &mode, OfflineReady: proto.Uint32(0)}.Build()
	}
	const online = pb.TransferFileType_FILE_TYPE_ONLINE
	s.PushFrame(alice, notify("x", online))
	s.PushFrame(alice, notify("x", online))
	s.PushFrame(alice, notify("kept", pb.TransferFileType_FILE_TYPE_OFFLINE))
	s.PushFrame(alice, notify("kept", pb.TransferFileType_FILE_TYPE_OFFLINE))
	s.PushFrame(alice, notify("y", online))
	var tasks []string
	for _, o := range waitFor[FileOffered](a, 4) {
		tasks = append(tasks, o.File.Task)
	}
	equal(t, "offers", strings.Join(tasks, " "), "x kept kept y")
	login := &pb.IMLoginReq{}
	if err := login.ParseBody(s.Frames(pb.CmdLoginReq)[0].Body); err != nil {
		t.Fatal(err)
	}
	equal(t, "file_repeats", login.GetFileRepeats(), true)
}
