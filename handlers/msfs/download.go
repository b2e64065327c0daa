package msfs

import (
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"teamtalk/core/blob"
	"teamtalk/core/im"
)

// inline lists the extensions that are served with a type that clients show or play. All
// other files are served as a download of bytes. Formats that browsers run, such as HTML,
// SVG and scripts, are not in the list, so that the type which the uploader gave does not
// matter.
var inline = map[string]string{
	".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".gif": "image/gif",
	".webp": "image/webp", ".bmp": "image/bmp",
	".heic": "image/heic", ".ico": "image/x-icon",
	".amr": "audio/amr", ".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".aac": "audio/aac",
	".wav": "audio/wav", ".ogg": "audio/ogg",
	".opus": "audio/ogg", ".spx": "audio/ogg", ".mp4": "video/mp4", ".webm": "video/webm",
}

// contentType returns the type with which a file of this name is served.
func contentType(name string) string {
	if t, ok := inline[strings.ToLower(path.Ext(name))]; ok {
		return t
	}
	return bytesType
}

// bytesType is the type of files that clients store and do not show.
const bytesType = "application/octet-stream"

// blobName returns the name in the path of a URL. Clients join addresses and paths with a
// superfluous slash, so several slashes count as one.
func blobName(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return strings.TrimPrefix(path, "/")
}

// content is the file or picture that a request receives, whole or in a range.
type content struct {
	io.ReadSeeker
	kind     string // content type
	etag     string // including its quotes
	modified time.Time
	cache    string // value of Cache-Control
}

// original returns the content of a stored file. It does not wrap the file, so that the
// kernel can send it.
func (s *Server) original(name string, b *blob.Blob) *content {
	return &content{ReadSeeker: b.ReadSeekCloser, kind: contentType(name), etag: b.ETag,
		modified: b.Modified, cache: s.cache}
}

// download serves a file, or a scaled picture. A stored file with the requested name
// takes precedence, because names of files may end in a size too.
func (s *Server) download(w http.ResponseWriter, r *http.Request) {
	name := blobName(r.URL.Path)
	path, size, sized := parseScaled(name)
	if sized {
		if v, ok := s.scaler.cached(path, size); ok && v.Picture != nil {
			s.used(r.Context(), path)
			s.serve(w, r, s.picture(&v))
			return
		}
	}
	b, err := s.opt.Store.Open(r.Context(), name)
	switch kind := im.KindOf(err); {
	case err == nil:
		defer b.Close()
		s.used(r.Context(), name)
		s.serve(w, r, s.original(name, b))
	case sized && (kind == im.NotFound || kind == im.Invalid):
		s.serveScaled(w, r, path, size)
	default:
		s.missing(w, err)
	}
}

// serve answers with c, or with the range of it that was requested.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, c *content) {
	h := w.Header()
	h.Set("Content-Type", c.kind)
	h.Set("ETag", c.etag)
	h.Set("Cache-Control", c.cache)
	if c.kind == bytesType {
		h.Set("Content-Disposition", "attachment")
	}
	if strings.Contains(r.Header.Get("Range"), ",") {
		// Clients resume a download with one range. A request with thousands of small
		// ranges would cause as many reads of the store, so several ranges are ignored
		// and the whole file is sent.
		r.Header.Del("Range")
	}
	control := http.NewResponseController(w)
	out := &counted{ResponseWriter: w,
		extend: func() { _ = control.SetWriteDeadline(time.Now().Add(s.opt.Progress)) }}
	http.ServeContent(out, r, "", c.modified, c.ReadSeeker)
	s.metrics.downloads.WithLabelValues("ok").Inc()
	s.metrics.bytesOut.Add(float64(out.n))
}

// missing answers a request for a file that cannot be opened.
func (s *Server) missing(w http.ResponseWriter, err error) {
	switch im.KindOf(err) {
	case im.NotFound, im.Invalid:
		s.metrics.downloads.WithLabelValues("not_found").Inc()
		http.Error(w, "not found", http.StatusNotFound)
	default:
		s.metrics.downloads.WithLabelValues("failed").Inc()
		s.complain("file not served", err)
		http.Error(w, "not available", http.StatusServiceUnavailable)
	}
}

// complain logs an error of the store at a limited rate, because it may occur in
// thousands of requests at once.
func (s *Server) complain(text string, err error) {
	if held, ok := s.often.Allow(time.Now()); ok {
		s.log.Error(text, "err", err, "held", held)
	}
}

// counted counts the bytes written, and extends the client's deadline with every piece.
// It implements ReadFrom, so that the kernel copies files to the socket.
type counted struct {
	http.ResponseWriter
	n      int64
	extend func()
}

func (c *counted) Write(b []byte) (int, error) {
	c.extend()
	n, err := c.ResponseWriter.Write(b)
	c.n += int64(n)
	return n, err
}

// sendPiece is the number of bytes that the client must read within one Progress.
const sendPiece = 1 << 20

// ReadFrom passes r to the connection's ReadFrom in pieces. http.ServeContent wraps the
// file in one io.LimitedReader. A second one around it would hide the file from the
// kernel, so each piece gets a new one around the file itself.
func (c *counted) ReadFrom(r io.Reader) (int64, error) {
	to, ok := c.ResponseWriter.(io.ReaderFrom)
	all, limited := r.(*io.LimitedReader)
	if !ok || !limited {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	sum := int64(0)
	for all.N > 0 {
		c.extend()
		n, err := to.ReadFrom(&io.LimitedReader{R: all.R, N: min(all.N, sendPiece)})
		sum += n
		c.n += n
		all.N -= n
		if err != nil || n == 0 {
			return sum, err
		}
	}
	return sum, nil
}
