//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// compareOften are flags with which a file server compares its files with the list all
// the time, also files that were just uploaded.
var compareOften = []string{"--file.compare", "20ms", "--file.compare-grace", "0s",
	"--file.check-online", "off"}

// leftFile is the content of the files that wait in these tests: two segments.
var leftFile = bytes.Repeat([]byte("two segments, or nearly "), 2500)

// shelf is a system that compares all the time, with two clients whose frames the test
// controls: u00001 leaves files for u00002.
type shelf struct {
	*deployment
	t                *testing.T
	sender, receiver *wire
	from, to         uint32
	seq              uint16
	own              map[string]string // the sender's ids, by the receiver's
}

// forShelves runs a test on a system of each shape.
func forShelves(t *testing.T, flags []string, run func(t *testing.T, s *shelf)) {
	forEachShape(t, shelfSettings(flags...), func(t *testing.T, sys *deployment) {
		run(t,
			newShelf(t, sys))
	})
}

// shelfSettings returns the settings of such a system.
func shelfSettings(flags ...string) settings {
	return settings{users: 3, files: true, flags: append(slices.Clone(compareOften), flags...)}
}

// newShelf logs in the two users.
func newShelf(t *testing.T, sys *deployment) *shelf {
	awaitFileServer(t, sys)
	s := &shelf{deployment: sys, t: t, seq: 100, own: map[string]string{}}
	s.sender, s.from = loggedIn(t, sys.msgAddr[0], "u00001", android)
	// No server notifies a phone of files: it must request the list.
	s.receiver, s.to = loggedIn(t, sys.msgAddr[1], "u00002", android)
	return s
}

// task requests the transfer of a file that waits for the receiver, and returns the
// sender's id.
func (s *shelf) task() string {
	s.t.Helper()
	rsp := &pb.IMFileRsp{}
	until(s.t, "a transfer, from a file server that may just have started", func() bool {
		s.seq++
		s.sender.send(s.seq, pb.IMFileReq_builder{FromUserId: &s.from, ToUserId: &s.to,
			FileName: new("left.txt"), FileSize: new(uint32(len(leftFile))),
			TransMode: pb.TransferFileType_FILE_TYPE_OFFLINE.Enum()}.Build())
		s.sender.expectSeq(s.seq, rsp)
		return rsp.GetResultCode() == 0
	})
	return rsp.GetTaskId()
}

// in logs in to a transfer at the file server.
func (s *shelf) in(user uint32, task string, role pb.ClientFileRole) *wire {
	s.t.Helper()
	w := dial(s.t, s.fileAddr)
	w.send(1, pb.IMFileLoginReq_builder{UserId: &user, TaskId: &task, FileRole: &role}.Build())
	rsp := &pb.IMFileLoginRsp{}
	if w.expectSeq(1, rsp); rsp.GetResultCode() != 0 {
		s.t.Fatalf("login to the transfer: %v", rsp)
	}
	return w
}

// upload uploads a file, and does not note it on the list: the client ends before. It
// returns the receiver's id.
func (s *shelf) upload() string {
	s.t.Helper()
	task := s.task()
	w := s.in(s.from, task, pb.ClientFileRole_CLIENT_OFFLINE_UPLOAD)
	defer w.Close()
	for at := 0; at < len(leftFile); {
		pull := &pb.IMFilePullDataReq{}
		seq := w.expect(pull)
		at = int(pull.GetOffset())
		data := leftFile[at : at+int(pull.GetDataSize())]
		w.send(seq, pb.IMFilePullDataRsp_builder{ResultCode: new(uint32(0)), TaskId: &task,
			UserId: &s.from, Offset: new(uint32(at)), FileData: data}.Build())
		at += len(data)
	}
	state := &pb.IMFileState{}
	if w.expect(state); state.GetState() != pb.ClientFileState_CLIENT_FILE_DONE {
		s.t.Fatalf("upload ended with %v", state)
	}
	listed := s.listedAs(task)
	s.own[listed] = task
	return listed
}

// listedAs returns the receiver's id of a task. It reads the folder of the file server,
// because no server tells the sender.
func (s *shelf) listedAs(sender string) string {
	s.t.Helper()
	names, err := filepath.Glob(filepath.Join(s.spoolDir(), "*.meta"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, name := range names {
		var meta struct {
			ID       string `json:"id"`
			SenderID string `json:"sender_id"`
		}
		b, err := os.ReadFile(name)
		if err == nil {
			err = json.Unmarshal(b, &meta)
		}
		if err != nil {
			s.t.Fatal(err)
		}
		if meta.SenderID == sender {
			return meta.ID
		}
	}
	s.t.Fatalf("no file with the sender's id %s among %d", sender, len(names))
	return ""
}

// pull fetches the segment of a file at an offset, and returns the next offset.
func (s *shelf) pull(w *wire, task string, at int) int {
	s.t.Helper()
	w.send(3, pb.IMFilePullDataReq_builder{TaskId: &task, UserId: &s.to,
		TransMode: pb.TransferFileType_FILE_TYPE_OFFLINE.Enum(), Offset: new(uint32(at)),
		DataSize: new(uint32(32 << 10))}.Build())
	rsp := &pb.IMFilePullDataRsp{}
	w.expectSeq(3, rsp)
	if n := len(rsp.GetFileData()); rsp.GetResultCode() != 0 || n == 0 ||
		!bytes.Equal(rsp.GetFileData(), leftFile[at:at+n]) {
		s.t.Fatalf("at %d: code %d, %d bytes", at, rsp.GetResultCode(), n)
	}
	return at + len(rsp.GetFileData())
}

// fetch fetches a file, and does not take it off the list.
func (s *shelf) fetch(task string) {
	s.t.Helper()
	w := s.in(s.to, task, pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD)
	defer w.Close()
	for at := 0; at < len(leftFile); {
		at = s.pull(w, task, at)
	}
	w.expect(&pb.IMFileState{})
}

// note notes a file on the list of the receiver, as the sender's client does after the
// upload.
func (s *shelf) note(task string) {
	s.t.Helper()
	s.sender.send(0, s.report(s.own[task]))
}

// report returns the report of an upload.
func (s *shelf) report(task string) *pb.IMFileAddOfflineReq {
	return pb.IMFileAddOfflineReq_builder{FromUserId: &s.from, ToUserId: &s.to,
		TaskId: &task, FileName: new("left.txt"),
		FileSize: new(uint32(len(leftFile)))}.Build()
}

// takeOff takes a file off the list, as the receiver's client does after the download.
func (s *shelf) takeOff(task string) {
	s.t.Helper()
	s.receiver.send(0, pb.IMFileDelOfflineReq_builder{FromUserId: &s.from, ToUserId: &s.to,
		TaskId: &task}.Build())
}

// list returns the files on the list of the receiver.
func (s *shelf) list() map[string]bool {
	s.t.Helper()
	rsp := &pb.IMFileHasOfflineRsp{}
	s.seq++
	s.receiver.send(s.seq, pb.IMFileHasOfflineReq_builder{UserId: &s.to}.Build())
	s.receiver.expectSeq(s.seq, rsp)
	all := map[string]bool{}
	for _, f := range rsp.GetOfflineFileList() {
		if f.GetFromUserId() == s.from && f.GetFileName() == "left.txt" &&
			f.GetFileSize() == uint32(len(leftFile)) {
			all[f.GetTaskId()] = true
		}
	}
	return all
}

// awaitList waits until the list of the receiver has exactly these files.
func (s *shelf) awaitList(what string, tasks ...string) {
	s.t.Helper()
	var got map[string]bool
	ok := eventually(func() bool {
		got = s.list()
		return len(got) == len(tasks) && !slices.ContainsFunc(tasks,
			func(task string) bool { return !got[task] })
	})
	if !ok {
		s.t.Fatalf("%s: listed %v, want %v", what, got, tasks)
	}
}

// compared waits for the end of two comparisons with a result, done or failed. The second
// of them began after the call.
func (s *shelf) compared(result string) {
	s.t.Helper()
	ended := func() float64 {
		return s.file.metric("teamtalk_file_list_comparisons_total",
			strconv.Quote(result))
	}
	before := ended()
	until(s.t, "two comparisons that are "+result, func() bool { return ended() >= before+2 })
}

// inSpool waits until the file server has n files.
func (s *shelf) inSpool(n float64) {
	s.t.Helper()
	until(s.t, fmt.Sprint(n, " files in the spool"),
		func() bool { return s.file.metric("teamtalk_file_spool_files", "") == n })
}

// TestFileNotNoted ends a client, and the file server, after an upload and before the
// note of the file. The receiver's list has the file all the same.
func TestFileNotNoted(t *testing.T) {
	t.Parallel()
	forShelves(t, nil, func(t *testing.T, s *shelf) {
		first := s.upload()
		s.awaitList("not noted", first)
		s.note(first) // a late note of the client
		s.file.extra = []string{"--file.compare", "0s"}
		s.restartFile((*server).stop)
		second := s.upload()
		s.file.extra = nil
		s.restartFile((*server).kill)
		s.awaitList("not noted before kill -9", first, second)
		for _, task := range []string{first, second} {
			s.fetch(task)
			s.takeOff(task)
		}
		s.awaitList("taken off")
		s.inSpool(0)
		s.compared("done")
		// Since its start. A comparison between the two steps of taking a file off the list
		// may also have removed the file.
		if n := s.file.metric("teamtalk_file_list_repairs_total", `what="listed"`); n != 1 {
			t.Errorf("%v files added to the list", n)
		}
	})
}

// separateShelf returns a system of separate servers.
func separateShelf(t *testing.T) *shelf {
	program(t)
	return newShelf(t, deploySeparate(t, shelfSettings("--link.call-timeout", "1s")))
}

// spoolDir returns the folder of the files that wait.
func (s *shelf) spoolDir() string {
	i := slices.Index(s.file.args, "--data-dir")
	return filepath.Join(s.file.args[i+1], "files")
}

// moveFiles moves the files of a pattern to a folder.
func moveFiles(t testing.TB, pattern, to string) {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	for _, name := range names {
		if err := os.Rename(name, filepath.Join(to, filepath.Base(name))); err != nil {
			t.Fatal(err)
		}
	}
}

// restartFile ends the file server and starts it again. If all servers are one process,
// the users log in again.
func (s *shelf) restartFile(end func(*server)) {
	s.t.Helper()
	if !s.separate {
		s.sender.Close()
		s.receiver.Close()
	}
	linked := func(want float64) {
		s.t.Helper()
		for _, m := range s.msg {
			until(s.t, "the links to the file server",
				func() bool { return m.metric("teamtalk_link_up", `peer="file"`) == want })
		}
	}
	end(s.file)
	if s.separate {
		linked(0)
	}
	s.file.start()
	linked(1)
	if !s.separate {
		s.sender, _ = loggedIn(s.t, s.msgAddr[0], "u00001", android)
		s.receiver, _ = loggedIn(s.t, s.msgAddr[1], "u00002", android)
	}
}

// TestFileLost removes a file from the disk of the file server. The file leaves the list,
// and files of other file servers stay. After the file is back on the disk, the list has
// it again.
func TestFileLost(t *testing.T) {
	t.Parallel()
	forShelves(t, nil, func(t *testing.T, s *shelf) {
		kept, lost := s.upload(), s.upload()
		host, port, _ := net.SplitHostPort(s.fileAddr)
		number, _ := strconv.ParseUint(port, 10, 32)
		const uuid = "6bd466b8-85bd-4ec3-94a6-01886865f3e0"
		others := []string{uuid, im.MarkTask("7"+uuid[1:], im.ServerMark(host, uint32(number))),
			im.SealTask("8"+uuid[1:], "10.9.9.9", 8600)}
		s.note(kept)
		s.note(lost)
		s.noteOthers(&others)
		s.awaitList("noted", append(others, kept, lost)...)
		if len(others) > 1 && im.TaskMark(others[1]) != im.TaskMark(kept) {
			t.Errorf("%s is not like an id of this server, %s", others[1], kept)
		}
		folder, away := s.spoolDir(), t.TempDir()
		s.restartFile(func(f *server) {
			f.kill()
			moveFiles(t, filepath.Join(folder, lost+".*"), away)
		})
		s.awaitList("lost", append(others, kept)...)
		s.compared("done")
		s.awaitList("others'", append(others, kept)...)
		s.restartFile(func(f *server) {
			f.stop()
			moveFiles(t, filepath.Join(away, "*"), folder)
		})
		s.awaitList("found again", append(others, kept, lost)...)
	})
}

// noteOthers adds files of other file servers to the list, as their message servers do. All
// in one the list is not open to others, and no file is added.
func (s *shelf) noteOthers(tasks *[]string) {
	s.t.Helper()
	if !s.separate {
		*tasks = nil
		return
	}
	w := dial(s.t, s.dbAddr)
	defer w.Close()
	for _, task := range *tasks {
		w.send(1, s.report(task))
	}
}

// TestFileFetchedRowLeft fetches a file and does not take it off the list. The row stays
// until the file expires.
func TestFileFetchedRowLeft(t *testing.T) {
	t.Parallel()
	forShelves(t, nil, func(t *testing.T, s *shelf) {
		task := s.upload()
		s.awaitList("not noted", task)
		s.fetch(task)
		s.compared("done")
		s.awaitList("fetched: its last bytes may be lost", task)
		s.fetch(task)
		s.file.extra = []string{"--file.keep-fetched", "0s"}
		s.restartFile((*server).stop)
		s.awaitList("expired")
		s.inSpool(0)
	})
}

// TestFileTakenOff takes files off the list. The message server notifies the file server,
// which deletes them. A device that is fetching a file receives all of it. Comparisons
// are off, so that only the notification counts.
func TestFileTakenOff(t *testing.T) {
	t.Parallel()
	forShelves(t, []string{"--file.compare", "0s"}, func(t *testing.T, s *shelf) {
		refused, fetched := s.upload(), s.upload()
		s.note(refused)
		s.note(fetched)
		s.awaitList("noted", refused, fetched)
		s.takeOff(refused)
		s.inSpool(1)
		device := s.in(s.to, fetched, pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD)
		at := s.pull(device, fetched, 0)
		s.takeOff(fetched)
		s.awaitList("both taken off")
		for at < len(leftFile) {
			at = s.pull(device, fetched, at)
		}
		device.expect(&pb.IMFileState{})
		s.inSpool(1)
		device.Close()
		s.inSpool(0)
	})
}

// TestFileTakenOffUnheard takes a file off the list while the file server is down. The
// file server deletes the file after its start.
func TestFileTakenOffUnheard(t *testing.T) {
	t.Parallel()
	s := separateShelf(t)
	task := s.upload()
	s.awaitList("not noted", task)
	s.file.kill()
	s.takeOff(task)
	s.awaitList("taken off")
	s.file.start()
	s.inSpool(0)
	s.awaitList("still taken off")
}

// warnings counts the lines of the file server's log about failed comparisons.
func (s *shelf) warnings() int {
	s.t.Helper()
	log, err := os.ReadFile(s.file.log)
	if err != nil {
		s.t.Fatal(err)
	}
	return bytes.Count(log, []byte("level=WARN msg=\"files not compared"))
}

// TestFileCompareWithoutDBProxy stops db_proxy. Comparisons fail, no file and no row is
// deleted, and the log has one line about it.
func TestFileCompareWithoutDBProxy(t *testing.T) {
	t.Parallel()
	s := separateShelf(t)
	task := s.upload()
	s.awaitList("not noted", task)
	s.compared("done") // only the first failure after a success is logged
	before := s.warnings()
	s.dbproxy.kill()
	s.compared("failed")
	s.inSpool(1)
	s.dbproxy.start()
	s.compared("done")
	s.inSpool(1)
	until(t, "the links of the message server",
		func() bool { return s.msg[1].probe("/readyz") == http.StatusOK })
	s.awaitList("with db_proxy again", task)
	if n := s.warnings() - before; n != 1 {
		t.Errorf("%d lines in the log about failed comparisons, want 1", n)
	}
}
