package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/im"
	"teamtalk/core/pdu"
	port "teamtalk/core/web"
	"teamtalk/core/web/webtest"
	"teamtalk/proto/pb"
)

// keeper is a file server whose connections a function answers.
type keeper struct {
	t     *testing.T
	serve func(c *kept)
}

func (k keeper) Any() bool { return true }

func (k keeper) Connect(_ context.Context, addr string, client netip.AddrPort, _ bool) (
	net.Conn, error) {
	if addr != "files:1" {
		return nil, im.Errorf(im.NotFound, "no file server %s", addr)
	}
	near, far := conns(k.t)
	go func() {
		defer far.Close()
		k.serve(&kept{Conn: far})
		_ = far.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, far) // what arrives would reset the connection
	}()
	return near, nil
}

// kept is a connection of a file server. Its calls end silently with the connection: what the page
// gets decides.
type kept struct {
	net.Conn
	login *pb.IMFileLoginReq
}

func (c *kept) send(m pb.Message) {
	b, err := pdu.Append(nil, 1, m)
	if err != nil {
		panic(err)
	}
	_, _ = c.Write(b)
}

// next returns the next message; nil at the end.
func (c *kept) next() pb.Message {
	head := make([]byte, pdu.HeaderLen)
	if _, err := io.ReadFull(c, head); err != nil {
		return nil
	}
	h := pdu.ParseHeader(head)
	body := make([]byte, h.Length-pdu.HeaderLen)
	if _, err := io.ReadFull(c, body); err != nil {
		return nil
	}
	m, err := pdu.Decode(h.Command, body)
	if err != nil {
		panic(err)
	}
	return m
}

// enter answers a login.
func (c *kept) enter(code uint32) bool {
	c.login, _ = c.next().(*pb.IMFileLoginReq)
	c.send(&pb.IMHeartBeat{}) // which has no meaning here
	c.send(pb.IMFileLoginRsp_builder{ResultCode: new(code),
		TaskId: new(c.login.GetTaskId())}.Build())
	return code == 0
}

// pull asks for a segment of an upload, and returns it.
func (c *kept) pull(at, n int) []byte {
	c.send(pb.IMFilePullDataReq_builder{TaskId: new(c.login.GetTaskId()), UserId: new(uint32(7)),
		TransMode: pb.TransferFileType_FILE_TYPE_OFFLINE.Enum(), Offset: new(uint32(at)),
		DataSize: new(uint32(n))}.Build())
	m, _ := c.next().(*pb.IMFilePullDataRsp)
	if int(m.GetOffset()) != at {
		return nil
	}
	return m.GetFileData()
}

func (c *kept) state(s pb.ClientFileState) {
	c.send(pb.IMFileState_builder{State: s.Enum(), TaskId: new(c.login.GetTaskId()),
		UserId: new(uint32(7))}.Build())
}

const (
	done  = pb.ClientFileState_CLIENT_FILE_DONE
	ready = pb.ClientFileState_CLIENT_FILE_PEER_READY
)

// awaitState reads the state that the page tells the sender of a direct file.
func (c *kept) awaitState(t *testing.T, want pb.ClientFileState) {
	m := c.next()
	for m != nil && m.Command() == pb.CmdFilePullDataReq {
		m = c.next()
	}
	s, _ := m.(*pb.IMFileState)
	if s.GetState() != want || s.GetTaskId() != "T1" || s.GetUserId() != 7 ||
		c.login.GetFileRole() != pb.ClientFileRole_CLIENT_REALTIME_RECVER {
		t.Errorf("the sender is told %v of the role %v, want %v", m, c.login.GetFileRole(), want)
	}
}

// fetchUpload takes an upload of a size from an offset, and returns it.
func (c *kept) fetchUpload(from, size int) []byte {
	var got []byte
	for at := from; at < size; {
		p := c.pull(at, min(fileSegment, size-at))
		if len(p) == 0 {
			return nil
		}
		got = append(got, p...)
		at += len(p)
	}
	c.state(done)
	return got
}

// uploadFile is the file of uploads, and uploadPath the path of its transfer.
var uploadFile = strings.Repeat("0123456789", 20_000)

const (
	fileQuery  = "?user=7&server=files:1"
	uploadPath = "/file/T1" + fileQuery
)

// uploadCases are uploads by what the page sends and what the file server does.
var uploadCases = map[string]struct {
	path, body string
	serve      func(c *kept) []byte // what the file server got; nil: it refuses the login
	code       int
	got        string
	result     string
}{
	"whole": {uploadPath, uploadFile, func(c *kept) []byte {
		return c.fetchUpload(0, len(uploadFile))
	}, codeOK, uploadFile, "ok"},
	"rest": {uploadPath, uploadFile, func(c *kept) []byte {
		return c.fetchUpload(100_000, len(uploadFile))
	}, codeOK, uploadFile[100_000:], "ok"},
	"complete": {uploadPath, uploadFile, func(c *kept) []byte {
		c.state(done)
		return nil
	}, codeOK, "", "ok"},
	"short": {uploadPath, uploadFile[1:], func(c *kept) []byte {
		return c.fetchUpload(0, len(uploadFile))
	}, codeBad, "", "bad"},
	"short rest": {uploadPath, "x", func(c *kept) []byte { return c.pull(9, 1) },
		codeBad, "", "bad"},
	"long": {uploadPath, uploadFile + "x", func(c *kept) []byte {
		return c.fetchUpload(0, len(uploadFile))
	}, codeBad, uploadFile, "bad"},
	"cancelled": {uploadPath, uploadFile, func(c *kept) []byte {
		c.state(pb.ClientFileState_CLIENT_FILE_CANCEL)
		return nil
	}, codeDenied, "", "denied"},
	"backward": {uploadPath, uploadFile, func(c *kept) []byte {
		c.pull(10, 10)
		if c.pull(0, 10) != nil {
			c.state(done)
		}
		return nil
	}, codeFailed, "", "failed"},
	"large segment": {uploadPath, uploadFile, func(c *kept) []byte {
		return c.pull(0, fileSegment+1)
	}, codeFailed, "", "failed"},
	"ended": {uploadPath, uploadFile, func(c *kept) []byte { return nil }, codeFailed, "",
		"failed"},
	"long frame": {uploadPath, uploadFile, func(c *kept) []byte {
		_, _ = c.Write([]byte("\x00\x02\x00\x00456789012345"))
		return nil
	}, codeFailed, "", "failed"},
	"no protobuf": {uploadPath, uploadFile, func(c *kept) []byte {
		b := append(pdu.AppendHeader(nil, pb.CmdFilePullDataReq, 1), 0xff)
		b[3]++
		_, _ = c.Write(b)
		return nil
	}, codeFailed, "", "failed"},
	"denied": {"/file/other" + fileQuery, uploadFile, nil, codeDenied, "", "denied"},
	"server": {"/file/T1?user=7&server=evil:1", uploadFile, nil, codeUnknown, "",
		"unknown_server"},
	"user":    {"/file/T1?user=0&server=files:1", uploadFile, nil, codeBad, "", "bad"},
	"no user": {"/file/T1?server=files:1", uploadFile, nil, codeBad, "", "bad"},
	"long id": {"/file/" + strings.Repeat("x", 65) + fileQuery, uploadFile, nil, codeBad, "",
		"bad"},
}

// TestUpload passes a file on, also the rest of one that broke off, and says what went wrong.
func TestUpload(t *testing.T) {
	for name, test := range uploadCases {
		got := make(chan string, 1)
		w := serve(t, Options{FileServers: keeper{t, func(c *kept) {
			var p []byte
			if test.serve == nil {
				c.enter(3)
			} else if c.enter(0) {
				p = test.serve(c)
			}
			got <- string(p)
		}}}, port.Options{}, nil)
		rsp, body := w.ask(t, "POST", test.path, test.body)
		var answer struct {
			Code *int   `json:"error_code"`
			Text string `json:"error_msg"`
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Code == nil ||
			*answer.Code != test.code || (answer.Text == "") != (test.code == 0) {
			t.Errorf("%s: %s, %s, want error_code %d", name, rsp.Status, body, test.code)
		}
		if test.got != "" && <-got != test.got {
			t.Errorf("%s: the file server got something else", name)
		}
		if n := w.fileResult("upload", test.result); n != 1 {
			t.Errorf("%s: %d counted as %s", name, n, test.result)
		}
		eventually(t, name, func() bool { return w.transfers() == 0 })
	}
}

// transfers returns how many files are in transfer.
func (w *world) transfers() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.moving + len(w.users)
}

// fileResult returns how many transfers had a result.
func (w *world) fileResult(direction, result string) int {
	return int(testutil.ToFloat64(w.metrics.files.WithLabelValues(direction, result)))
}

// sendAll sends a file, and says that it was fetched.
func (c *kept) sendAll(file []byte) {
	c.sendParts(file)
	c.state(done)
}

// sendParts answers requests for segments of a file.
func (c *kept) sendParts(file []byte) {
	for at := 0; at < len(file); {
		m, _ := c.next().(*pb.IMFilePullDataReq)
		if m == nil {
			return
		}
		n := int(m.GetDataSize())
		c.segment(m.GetOffset(), file[at:at+n])
		at += n
	}
}

func (c *kept) segment(at uint32, p []byte) {
	c.send(pb.IMFilePullDataRsp_builder{ResultCode: new(uint32(0)),
		TaskId: new(c.login.GetTaskId()), UserId: new(uint32(7)), Offset: &at,
		FileData: p}.Build())
}

// downloadCase is a download by what the file server does.
type downloadCase struct {
	path   string
	serve  func(c *kept) // nil: it refuses the login
	status int           // -1: the answer breaks off
	result string
}

// TestDownloadDirect fetches a file that its sender passes on, and tells the sender the end.
func TestDownloadDirect(t *testing.T) {
	path, file := downloadPath+"&direct=1", downloaded
	testDownloads(t, map[string]downloadCase{
		"whole": {path, func(c *kept) {
			c.state(ready)
			c.sendParts(file)
			c.awaitState(t, done)
		}, 200, "ok"},
		"ended": {path, func(c *kept) {
			c.state(pb.ClientFileState_CLIENT_FILE_CANCEL)
		}, 404, "denied"},
		"ended later": {path, func(c *kept) {
			c.state(ready)
			c.segment(0, file[:fileSegment])
			c.state(pb.ClientFileState_CLIENT_FILE_CANCEL)
		}, -1, "denied"},
		"wrong": {path, func(c *kept) {
			c.state(ready)
			c.segment(9, file[:fileSegment])
			c.awaitState(t, pb.ClientFileState_CLIENT_FILE_CANCEL)
		}, 502, "failed"},
	})
}

// downloaded is the file of downloads, and downloadPath the path of its transfer.
var (
	downloaded   = bytes.Repeat([]byte("0123456789"), 100_000)
	downloadPath = fmt.Sprintf("/file/T1?user=7&server=files:1&size=%d&name=", len(downloaded))
)

// TestDownload fetches a file, and shows in each case that it is not whole.
func TestDownload(t *testing.T) {
	path, file := downloadPath, downloaded
	testDownloads(t, map[string]downloadCase{
		"whole":  {path + "a.txt", func(c *kept) { c.sendAll(file) }, 200, "ok"},
		"no end": {path, func(c *kept) { c.sendParts(file) }, 200, "ok"},
		"refused": {path, func(c *kept) {
			c.next()
			c.send(pb.IMFilePullDataRsp_builder{ResultCode: new(uint32(4)), TaskId: new("T1"),
				UserId: new(uint32(7)), Offset: new(uint32(0)), FileData: []byte{}}.Build())
		}, 404, "denied"},
		"cancelled": {path, func(c *kept) { c.state(pb.ClientFileState_CLIENT_FILE_CANCEL) }, 404,
			"denied"},
		"short segment": {path, func(c *kept) { c.segment(0, file[:10]) }, 502, "failed"},
		"wrong offset":  {path, func(c *kept) { c.segment(9, file[:fileSegment]) }, 502, "failed"},
		"broken off":    {path, func(c *kept) { c.segment(0, file[:fileSegment]) }, -1, "failed"},
		"denied":        {path, nil, 404, "denied"},
		"no size":       {"/file/T1?user=7&server=files:1", nil, 400, "bad"},
		"long size":     {"/file/T1?user=7&server=files:1&size=4294967296", nil, 400, "bad"},
		"server":        {"/file/T1?user=7&server=evil:1&size=1", nil, 404, "unknown_server"},
	})
}

// testDownloads compares the answers with the cases.
func testDownloads(t *testing.T, cases map[string]downloadCase) {
	t.Helper()
	for name, test := range cases {
		w := serve(t, Options{FileServers: keeper{t, func(c *kept) {
			if test.serve == nil {
				c.enter(3)
			} else if c.enter(0) {
				test.serve(c)
			}
		}}}, port.Options{}, nil)
		c := &http.Client{}
		rsp, err := c.Get("http://" + w.port.Addr().String() + test.path)
		if err != nil {
			t.Fatal(name, err)
		}
		body, err := io.ReadAll(rsp.Body)
		rsp.Body.Close()
		c.CloseIdleConnections()
		switch {
		case test.status == -1:
			if err == nil {
				t.Errorf("%s: %s, %d bytes and a good end", name, rsp.Status, len(body))
			}
		case err != nil || rsp.StatusCode != test.status:
			t.Errorf("%s: %s, %v, want %d", name, rsp.Status, err, test.status)
		case test.status == 200 && (!bytes.Equal(body, downloaded) || rsp.ContentLength !=
			int64(len(downloaded))):
			t.Errorf("%s: other contents, %d bytes", name, len(body))
		}
		eventually(t, name, func() bool { return w.transfers() == 0 })
		if n := w.fileResult("download", test.result); n != 1 {
			t.Errorf("%s: %d counted as %s", name, n, test.result)
		}
	}
}

// TestDecline tells the sender of a direct file that the user does not take it.
func TestDecline(t *testing.T) {
	w := serve(t, Options{FileServers: keeper{t, func(c *kept) {
		if c.enter(0) {
			c.awaitState(t, pb.ClientFileState_CLIENT_FILE_REFUSE)
		}
	}}}, port.Options{}, nil)
	for path, status := range map[string]int{uploadPath + "&direct=1": http.StatusNoContent,
		uploadPath: http.StatusBadRequest} {
		if rsp, body := w.ask(t, "DELETE", path, ""); rsp.StatusCode != status {
			t.Errorf("%s: %s, %s", path, rsp.Status, body)
		}
	}
	for _, result := range []string{"ok", "bad"} {
		if n := w.fileResult("decline", result); n != 1 {
			t.Errorf("%d counted as %s", n, result)
		}
	}
}

// TestFileHeaders keeps browsers from showing a file as a page, whatever its name says.
func TestFileHeaders(t *testing.T) {
	for name, want := range map[string]string{
		"a.html": `attachment; filename=a.html`, "": `attachment; filename=file`,
		"../x y\r\n.txt": `attachment; filename="x y.txt"`,
		"报告.pdf":         `attachment; filename*=utf-8''%E6%8A%A5%E5%91%8A.pdf`,
	} {
		h := http.Header{}
		fileHeader(h, name, 5)
		if got := h.Get("Content-Disposition"); got != want ||
			h.Get("Content-Type") != "application/octet-stream" ||
			!strings.Contains(h.Get("Content-Security-Policy"), "sandbox") {
			t.Errorf("%q: %q, want %q, %v", name, got, want, h)
		}
	}
}

// TestTransfers bounds the files in transfer, and refuses what would count as a download.
func TestTransfers(t *testing.T) {
	w := serve(t, Options{FileServers: keeper{t, func(c *kept) { c.enter(0) }}}, port.Options{},
		nil)
	for range maxUserTransfers {
		w.enter(7)
	}
	if rsp, _ := w.ask(t, "GET", "/file/T1?user=8&server=files:1&size=9", ""); rsp.StatusCode !=
		http.StatusBadGateway {
		t.Errorf("a download of another user: %s", rsp.Status)
	}
	const path = "/file/T1?user=7&server=files:1&size=9"
	if rsp, _ := w.ask(t, "GET", path, ""); rsp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("too many downloads: %s", rsp.Status)
	}
	if _, body := w.ask(t, "POST", path, "x"); !strings.Contains(body, `"error_code":8`) {
		t.Errorf("too many uploads: %s", body)
	}
	for user := range uint32(maxTransfers) {
		w.enter(100 + user)
	}
	if _, body := w.ask(t, "POST", "/file/T1?user=8&server=files:1", "x"); !strings.Contains(body,
		`"error_code":8`) {
		t.Errorf("too many users: %s", body)
	}
	if rsp, _ := w.ask(t, "HEAD", path, ""); rsp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("HEAD: %s", rsp.Status)
	}
	if rsp, _ := w.ask(t, "POST", path, "x", "Sec-Fetch-Site", "cross-site"); rsp.StatusCode !=
		http.StatusForbidden {
		t.Errorf("an upload of another page: %s", rsp.Status)
	}
}

// TestSilentPage ends an upload whose page sends nothing more.
func TestSilentPage(t *testing.T) {
	ended := make(chan struct{})
	w := serve(t, Options{WriteTimeout: 50 * time.Millisecond, FileServers: keeper{t,
		func(c *kept) {
			if c.enter(0) {
				c.pull(0, 10)
				close(ended)
			}
		}}}, port.Options{}, nil)
	c := webtest.Dial(t, w.port)
	_, _ = io.WriteString(c, "POST /file/T1?user=7&server=files:1 HTTP/1.1\r\nHost: x\r\n"+
		"Content-Length: 10\r\n\r\n12345")
	<-ended
	if rest := webtest.Rest(t, c); !strings.Contains(rest, `"error_code":9`) {
		t.Errorf("answer %q", rest)
	}
}
