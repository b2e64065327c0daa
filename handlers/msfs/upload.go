package msfs

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"teamtalk/core/im"
)

// Values of error_code in the answer to an upload.
const (
	codeOK     = 0
	codeBad    = 1 // the request: it has no file, or one that is too large
	codeFailed = 9 // the server: its disk is full, or it is busy

	textOK = "成功"
)

// uploaded is the answer to an upload.
type uploaded struct {
	Code int    `json:"error_code"`
	Text string `json:"error_msg"`
	Path string `json:"path"`
	URL  string `json:"url"`
}

// formOverhead bounds the part of a form that is not the file, in bytes: names,
// boundaries and other fields. The lines before the file are held in memory, and this is
// their only bound.
const formOverhead = 64 << 10

// minPace is the lowest average speed of an upload after the first Progress, in bytes a
// second. Without it a client that sends one byte now and then would occupy an upload
// slot for ever.
const minPace = 4 << 10

// upload stores the file of a form. The status is always 200, because clients read
// error_code.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength > s.opt.MaxSize+formOverhead {
		s.refuse(w, codeBad, "too_large", "file is too large")
		return
	}
	select {
	case s.uploads <- struct{}{}:
		defer func() { <-s.uploads }()
	default:
		s.refuse(w, codeFailed, "busy", "服务器繁忙")
		return
	}
	body := &limited{left: formOverhead, r: &patient{r: r.Body,
		control: http.NewResponseController(w), begun: time.Now(), progress: s.opt.Progress}}
	r.Body = struct {
		io.Reader
		io.Closer
	}{body, r.Body}
	form, err := r.MultipartReader()
	if err != nil {
		s.refuse(w, codeBad, "form", "not a multipart form")
		return
	}
	part, err := filePart(form)
	if err != nil {
		s.refuse(w, codeBad, "form", "no file in the form")
		return
	}
	body.left += s.opt.MaxSize
	stored := storedName(part.FileName())
	n, err := s.opt.Store.Put(r.Context(), stored, &limited{r: part, left: s.opt.MaxSize},
		contentType(stored))
	if err != nil {
		s.refuseFile(w, err)
		return
	}
	s.metrics.uploads.WithLabelValues("ok").Inc()
	s.metrics.bytesIn.Add(float64(n))
	base := s.opt.URL
	if base == "" {
		base = "http://" + r.Host
	}
	s.answer(w, uploaded{Code: codeOK, Text: textOK, Path: stored, URL: base + "/" + stored})
}

// patient extends the client's read deadline with every piece, unless the upload is
// slower than minPace on average.
type patient struct {
	r        io.Reader
	control  *http.ResponseController
	begun    time.Time
	progress time.Duration
	n        int64 // bytes read
}

func (p *patient) Read(b []byte) (int, error) {
	until, pace := time.Now().Add(p.progress),
		p.begun.Add(p.progress+time.Duration(p.n)*time.Second/minPace)
	if pace.Before(until) {
		until = pace
	}
	_ = p.control.SetReadDeadline(until) // an error means that the server has only its own limits
	n, err := p.r.Read(b)
	p.n += int64(n)
	return n, err
}

// refuseFile answers with the reason why a file was not stored.
func (s *Server) refuseFile(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errTooLarge):
		s.refuse(w, codeBad, "too_large", "file is too large")
	case im.KindOf(err) == im.Invalid:
		s.refuse(w, codeBad, "empty", "file is empty")
	case im.KindOf(err) == im.Busy, im.KindOf(err) == im.Unavailable:
		if held, ok := s.often.Allow(time.Now()); ok {
			s.log.Error("file not stored", "err", err, "held", held)
		}
		s.refuse(w, codeFailed, "store", "服务端内部错误")
	default: // an error of reading: the client disconnected, or was too slow
		s.refuse(w, codeBad, "broken", "upload broken off")
	}
}

func (s *Server) refuse(w http.ResponseWriter, code int, reason, text string) {
	s.metrics.uploads.WithLabelValues(reason).Inc()
	// Closing the connection avoids reading the rest of the body.
	w.Header().Set("Connection", "close")
	s.answer(w, uploaded{Code: code, Text: text})
}

func (s *Server) answer(w http.ResponseWriter, a uploaded) {
	// The upload may have used up the server's own deadline for the whole request.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.opt.Progress))
	// The body is JSON, but the Mac and iOS clients accept no type except text/html. The
	// encoder escapes the characters that have a meaning in HTML.
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := json.NewEncoder(w).Encode(a); err != nil { // the client disconnected
		s.log.Debug("answer not sent", "err", err)
	}
}
