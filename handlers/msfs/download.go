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

// inline are the endings served with a type that clients show or play. Everything else is a download of bytes: what browsers would run – HTML, SVG,
// scripts – is not among these, whatever the uploader says of it.
var inline = map[string]string{
	".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".gif": "image/gif", ".webp": "image/webp", ".bmp": "image/bmp",
	".heic": "image/heic", ".ico": "image/x-icon",
	".amr": "audio/amr", ".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".aac": "audio/aac", ".wav": "audio/wav", ".ogg": "audio/ogg",
	".opus": "audio/ogg", ".spx": "audio/ogg", ".mp4": "video/mp4", ".webm": "video/webm",
}

// contentType is what a file of that name is served as.
func contentType(name string) string {
	if t, ok := inline[path.Ext(name)]; ok {
		return t
	}
	return bytesType
}

// bytesType is the type of files that clients only keep.
const bytesType = "application/octet-stream"

// blobName returns the name that a URL's path asks for. Clients join addresses and paths with a
// slash too many, so several count as one.
func blobName(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return strings.TrimPrefix(path, "/")
}

// content is what one request gets, or a range of it.
type content struct {
	io.ReadSeeker
	kind     string // content type
	etag     string // with its quotes
	modified time.Time
	cache    string // Cache-Control
}

// original is a stored file to be served. The file stays bare, so that the kernel sends it.
func original(name string, b *blob.Blob) *content {
	return &content{ReadSeeker: b.ReadSeekCloser, kind: contentType(name), etag: b.ETag,
		modified: b.Modified, cache: cacheForEver}
}

// download serves a file, or a picture in another size. A stored file of the name asked for
// comes first: names may themselves end in a size.
func (s *Server) download(w http.ResponseWriter, r *http.Request) {
	name := blobName(r.URL.Path)
	path, size, sized := parseScaled(name)
	if sized {
		if v, ok := s.scaler.cached(path, size); ok && v.Picture != nil {
			s.serve(w, r, v.content())
			return
		}
	}
	b, err := s.opt.Store.Open(r.Context(), name)
	switch kind := im.KindOf(err); {
	case err == nil:
		defer b.Close()
		s.serve(w, r, original(name, b))
	case sized && (kind == im.NotFound || kind == im.Invalid):
		s.serveScaled(w, r, path, size)
	default:
		s.missing(w, err)
	}
}

// serve answers with c, or the range of it that is asked for.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, c *content) {
	h := w.Header()
	h.Set("Content-Type", c.kind)
	h.Set("ETag", c.etag)
	h.Set("Cache-Control", c.cache)
	if c.kind == bytesType {
		h.Set("Content-Disposition", "attachment")
	}
	if strings.Contains(r.Header.Get("Range"), ",") {
		// Clients take up a download where it broke off, in one range. Thousands of little ones in one request would be as many ways to the store.
		r.Header.Del("Range")
	}
	control := http.NewResponseController(w)
	out := &counted{ResponseWriter: w, extend: func() { _ = control.SetWriteDeadline(time.Now().Add(s.opt.Progress)) }}
	http.ServeContent(out, r, "", c.modified, c.ReadSeeker)
	s.metrics.downloads.WithLabelValues("ok").Inc()
	s.metrics.bytesOut.Add(float64(out.n))
}

// missing answers for a file that cannot be opened.
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

// complain logs what the store may do wrong for thousands of requests at once.
func (s *Server) complain(text string, err error) {
	if held, ok := s.often.Allow(time.Now()); ok {
		s.log.Error(text, "err", err, "held", held)
	}
}

// counted counts what is written, and gives the client more time with every piece. It has ReadFrom, so that files go from disk to socket without
// passing through here.
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

// sendPiece is how much may take one Progress, in bytes.
const sendPiece = 1 << 20

// ReadFrom hands pieces to the connection's own ReadFrom. What http.ServeContent gives is a file behind one io.LimitedReader; a second one
// around it would hide the file from the kernel.
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
