package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"teamtalk/core/im"
	port "teamtalk/core/web"
	"teamtalk/proto/pb"
)

// FileServers are the servers that keep files until their receivers fetch them.
type FileServers interface {
	// Any reports whether a file server is known.
	Any() bool
	// Connect connects a client to the file server with an address that clients are told, as
	// host:port. NotFound for an address that is none of a file server. secure says that the
	// client has TLS.
	Connect(ctx context.Context, addr string, client netip.AddrPort, secure bool) (net.Conn, error)
}

const (
	// maxTransfers bounds the files that are in transfer at the same time. Each takes about
	// 128 KiB of memory.
	maxTransfers = 1024
	// maxUserTransfers bounds those of one user: slow ones take the places of all others.
	maxUserTransfers = 32
)

// Values of error_code in the answer to an upload, as in those of the HTTP API.
const (
	codeOK      = 0
	codeBad     = 1 // the request, or a file of another size than announced
	codeDenied  = 3 // the file server does not know the transfer, or not for this user
	codeUnknown = 4 // no such file server
	codeBusy    = 8 // too many transfers
	codeFailed  = 9 // a server failed, or cannot be reached: try again
)

// fileRequest is what the page says of a transfer.
type fileRequest struct {
	task   string
	user   uint32
	server string // host:port
	direct bool   // the sender passes the file on itself
}

// maxTask is the longest id of a transfer, in bytes.
const maxTask = 64

// fileRequestOf reads the path and the query of a request.
func fileRequestOf(r *http.Request) (f fileRequest, err error) {
	q := r.URL.Query()
	user, err := strconv.ParseUint(q.Get("user"), 10, 32)
	f = fileRequest{task: r.PathValue("task"), user: uint32(user), server: q.Get("server"),
		direct: q.Get("direct") != ""}
	if err != nil || user == 0 || f.task == "" || len(f.task) > maxTask || f.server == "" {
		return f, im.Errorf(im.Invalid, "want /file/TASK?user=ID&server=HOST:PORT")
	}
	return f, nil
}

// link logs in to a file server for a transfer. The caller closes the link.
func (s *Server) link(r *http.Request, f fileRequest, role pb.ClientFileRole) (*fileLink, error) {
	if !s.enter(f.user) {
		return nil, im.Errorf(im.Busy, "too many files are in transfer")
	}
	leave := func() { s.leave(f.user) }
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		leave()
		return nil, im.WithKind(im.Invalid, "address of the client", err)
	}
	c, err := s.opt.FileServers.Connect(r.Context(), f.server, client, port.Secure(r))
	if err != nil {
		leave()
		return nil, err
	}
	l := &fileLink{fileRequest: f, role: role, conn: c, in: bufio.NewReaderSize(c, fileBuffer),
		wait: s.opt.WriteTimeout, leave: leave}
	if err := l.login(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// enter counts a transfer of a user. It returns false when there are too many.
func (s *Server) enter(user uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.moving >= maxTransfers || s.users[user] >= maxUserTransfers {
		return false
	}
	s.moving++
	s.users[user]++
	return true
}

// leave ends the count of a transfer.
func (s *Server) leave(user uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moving--
	if s.users[user]--; s.users[user] == 0 {
		delete(s.users, user)
	}
}

// upload passes the body of a request on to a file server, which asks for it segment by segment.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) {
	f, err := fileRequestOf(r)
	if err == nil {
		err = s.send(w, r, f)
	}
	s.noteFile("upload", err)
	answer := struct {
		Code int    `json:"error_code"`
		Text string `json:"error_msg"`
	}{codeOf(err), ""}
	if err != nil {
		answer.Text = err.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(answer) // a client that is gone needs nothing
}

// send uploads the body of a request.
func (s *Server) send(w http.ResponseWriter, r *http.Request, f fileRequest) error {
	l, err := s.link(r, f, pb.ClientFileRole_CLIENT_OFFLINE_UPLOAD)
	if err != nil {
		return err
	}
	defer l.close()
	control := http.NewResponseController(w)
	body := &timelyBody{ReadCloser: r.Body, control: control, wait: s.opt.WriteTimeout}
	err = l.give(body)
	// The answer has its own time.
	_ = control.SetWriteDeadline(time.Now().Add(s.opt.WriteTimeout))
	return err
}

// download answers with the contents of a file. The page says its size, which the notice of the
// file has.
func (s *Server) download(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet { // HEAD would count as fetched
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	f, err := fileRequestOf(r)
	size, bad := strconv.ParseUint(r.URL.Query().Get("size"), 10, 32)
	if err == nil && (bad != nil || size == 0) {
		err = im.Errorf(im.Invalid, "want the size of the file")
	}
	begun, out := false, &timelyWriter{w, http.NewResponseController(w), s.opt.WriteTimeout}
	if err == nil {
		var l *fileLink
		if l, err = s.link(r, f, f.receiver()); err == nil {
			defer l.close()
			err = l.take(int64(size), func(p []byte) error {
				if !begun {
					begun = true
					fileHeader(w.Header(), r.URL.Query().Get("name"), size)
				}
				_, err := out.Write(p)
				return err
			})
		}
	}
	s.noteFile("download", err)
	switch {
	case err != nil && begun:
		panic(http.ErrAbortHandler) // the browser sees that the file is not whole
	case err != nil:
		out.extend() // the file server may have taken long
		http.Error(out, err.Error(), statusOf(err))
	}
}

// receiver returns the role of a page that takes a file.
func (f *fileRequest) receiver() pb.ClientFileRole {
	if f.direct {
		return pb.ClientFileRole_CLIENT_REALTIME_RECVER
	}
	return pb.ClientFileRole_CLIENT_OFFLINE_DOWNLOAD
}

// decline tells the sender of a direct file that the user does not take it.
func (s *Server) decline(w http.ResponseWriter, r *http.Request) {
	f, err := fileRequestOf(r)
	if err == nil && !f.direct {
		err = im.Errorf(im.Invalid, "only a direct file is declined here")
	}
	if err == nil {
		var l *fileLink
		if l, err = s.link(r, f, f.receiver()); err == nil {
			err = l.refuse()
			l.close()
		}
	}
	s.noteFile("decline", err)
	if err != nil {
		http.Error(w, err.Error(), statusOf(err))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// fileHeader sets the header of a file, which no browser shows as a page.
func fileHeader(h http.Header, name string, size uint64) {
	if name = im.CleanFileName(name); name == "" {
		name = "file"
	}
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatUint(size, 10))
	h.Set("Content-Disposition", mime.FormatMediaType("attachment",
		map[string]string{"filename": name}))
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Cache-Control", "no-store")
}

// codeOf returns the error_code of an error.
func codeOf(err error) int {
	switch {
	case err == nil:
		return codeOK
	case im.KindOf(err) == im.Invalid:
		return codeBad
	case im.KindOf(err) == im.Denied:
		return codeDenied
	case im.KindOf(err) == im.NotFound:
		return codeUnknown
	case im.KindOf(err) == im.Busy:
		return codeBusy
	}
	return codeFailed
}

// statusOf returns the status of an error.
func statusOf(err error) int {
	switch codeOf(err) {
	case codeBad:
		return http.StatusBadRequest
	case codeDenied, codeUnknown:
		return http.StatusNotFound
	case codeBusy:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

// fileResults are the results of transfers in metrics, by error_code.
var fileResults = map[int]string{codeOK: "ok", codeBad: "bad", codeDenied: "denied",
	codeUnknown: "unknown_server", codeBusy: "busy", codeFailed: "failed"}

// noteFile counts a transfer, and logs one that a server failed.
func (s *Server) noteFile(what string, err error) {
	code := codeOf(err)
	s.metrics.files.WithLabelValues(what, fileResults[code]).Inc()
	if code == codeFailed && !errors.Is(err, errPage) {
		s.warn("the file of a page is not transferred", "direction", what, "err", err)
	}
}

// errPage reports that the page ended a transfer, or was silent.
var errPage = errors.New("the page does not send or read the file")

// ofPage returns an error of the connection of the page.
func ofPage(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return im.Errorf(im.Invalid, "the file is shorter than announced")
	}
	return im.WithKind(im.Closed, "transfer", fmt.Errorf("%w: %w", errPage, err))
}
