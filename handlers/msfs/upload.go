package msfs

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"teamtalk/core/blob"
	"teamtalk/core/im"
	"teamtalk/core/sound"
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

// refusal is the answer to an upload that is not stored.
type refusal struct {
	code   int
	reason string // for the metric
	text   string
	gone   bool // the client has disconnected, or is too slow
}

// upload stores the file of a form. The status is always 200, because clients read
// error_code.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) {
	stored, no := s.accept(w, r)
	if no != nil {
		s.refuse(w, r, no)
		return
	}
	base := s.opt.URL
	if base == "" {
		base = "http://" + r.Host
	}
	s.answer(w, uploaded{Code: codeOK, Text: textOK, Path: stored, URL: base + "/" + stored})
}

// accept stores the file of an upload within the limits, and returns its name.
func (s *Server) accept(w http.ResponseWriter, r *http.Request) (stored string, no *refusal) {
	from, most, no := s.uploader(r)
	if no != nil {
		return "", no
	}
	if r.ContentLength > most+formOverhead {
		return "", tooLarge
	}
	cost, ok := s.budgets.begin(from, min(r.ContentLength, most))
	if !ok {
		return "", s.overBudget(r, from)
	}
	defer cost.end()
	if no := s.slots.take(from); no != nil {
		if no == overShare {
			s.over.Warn(s.log, time.Now(), "upload refused, its address or user has as many "+
				"uploads in progress as further ones are possible (settings msfs.max_uploads, "+
				"strangers.trusted_networks)", "addr", r.RemoteAddr, "user", from.user)
		}
		return "", no
	}
	defer s.slots.leave(from)
	body := &limited{left: formOverhead, r: &patient{r: r.Body,
		control: http.NewResponseController(w), begun: time.Now(), progress: s.opt.Progress}}
	in := r.WithContext(r.Context()) // a copy, so that refuse reads the rest without patience
	in.Body = struct {
		io.Reader
		io.Closer
	}{body, r.Body}
	form, err := in.MultipartReader()
	if err != nil {
		return "", &refusal{code: codeBad, reason: "form", text: "not a multipart form"}
	}
	part, err := filePart(form)
	if err != nil {
		return "", &refusal{code: codeBad, reason: "form", text: "no file in the form"}
	}
	body.left += most
	stored = storedName(part.FileName())
	n, err := s.opt.Store.Put(r.Context(), stored,
		charged{&limited{r: part, left: most}, cost}, contentType(stored))
	if err != nil {
		return "", s.notStored(r, from, err)
	}
	s.stored(n)
	if from == unbounded || r.Header.Get(sound.Header) != "" {
		s.used(r.Context(), stored) // a sound, see Put
	}
	return stored, nil
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

var (
	tooLarge = &refusal{code: codeBad, reason: "too_large", text: "file is too large"}
	noSlot   = &refusal{code: codeFailed, reason: "busy", text: "服务器繁忙"}
	// overShare refuses an uploader that has a share of the slots.
	overShare = &refusal{code: codeFailed, reason: "share", text: "同时上传的文件过多，请稍后再试"}
)

// notStored returns the refusal for an error of the store or of reading.
func (s *Server) notStored(r *http.Request, from uploader, err error) *refusal {
	switch {
	case errors.Is(err, errTooLarge):
		return tooLarge
	case errors.Is(err, errBudget):
		return s.overBudget(r, from)
	case errors.Is(err, blob.ErrQuota):
		s.complain("file not stored (setting msfs.quota)", err)
		return &refusal{code: codeFailed, reason: "quota", text: "存储空间已满"}
	case errors.Is(err, blob.ErrFull):
		s.complain("file not stored (setting msfs.min_free)", err)
		return &refusal{code: codeFailed, reason: "disk", text: "服务器磁盘空间不足"}
	case im.KindOf(err) == im.Invalid:
		return &refusal{code: codeBad, reason: "empty", text: "file is empty"}
	case im.KindOf(err) == im.Busy, im.KindOf(err) == im.Unavailable:
		s.complain("file not stored", err)
		return &refusal{code: codeFailed, reason: "store", text: "服务端内部错误"}
	}
	// An error of reading: the client disconnected, or was too slow.
	return &refusal{code: codeBad, reason: "broken", text: "upload broken off", gone: true}
}

// overBudget returns the refusal for an upload for which the budget of its address or user has
// too few bytes.
func (s *Server) overBudget(r *http.Request, from uploader) *refusal {
	s.over.Warn(s.log, time.Now(), "upload refused, its address or user has used up its budget "+
		"(settings msfs.upload_rate, strangers.trusted_networks)", "addr", r.RemoteAddr,
		"user", from.user)
	return &refusal{code: codeFailed, reason: "budget", text: "上传过于频繁，请稍后再试"}
}

// refuse answers an upload that is not stored, and closes its connection.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, no *refusal) {
	s.metrics.uploads.WithLabelValues(no.reason).Inc()
	w.Header().Set("Connection", "close")
	s.answer(w, uploaded{Code: no.code, Text: no.text})
	if !no.gone {
		s.linger(w, r)
	}
}

// linger reads the rest of a refused upload, within limits. Stock clients read the answer
// after they have sent their whole upload. When the server closes the connection before,
// sending fails, and they do not read it.
func (s *Server) linger(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Expect") != "" {
		return // the client does not send the rest without a consent
	}
	control := http.NewResponseController(w)
	if control.EnableFullDuplex() != nil || control.Flush() != nil {
		return
	}
	until := time.Now().Add(s.opt.Progress)
	rest := &limited{r: r.Body, left: s.opt.MaxSize}
	for b, err := make([]byte, 32<<10), error(nil); err == nil; {
		at := time.Now().Add(s.opt.Linger)
		if at.After(until) {
			at = until
		}
		if control.SetReadDeadline(at) != nil {
			return
		}
		_, err = rest.Read(b)
	}
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
