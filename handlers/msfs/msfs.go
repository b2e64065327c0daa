// Package msfs decides for the small-file server: pictures, avatars and sounds over HTTP.
//
// A client uploads with POST and a multipart form, one file, and gets a path and URL; everybody downloads with GET. Nobody is asked who they are, as in
// the first implementation: a file is found by who knows its name, and names cannot be guessed. What comes from outsiders is never
// held in memory whole, and never served as something that a browser would run.
package msfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/blob"
	"teamtalk/core/im"
	"teamtalk/core/obs"
)

// Options sets up a Server. Zero values mean the defaults.
type Options struct {
	// Store keeps the files. Required.
	Store blob.Store
	// URL is how clients reach this server, told with every upload: http://files.example.com:8700. Default: what the uploading client called.
	URL string
	// MaxSize is the largest file taken, in bytes. Default 10 MiB.
	MaxSize int64
	// MaxUploads bounds the uploads at work at once; beyond it they are refused as busy. Default 64.
	MaxUploads int
	// Progress is how long a client may be silent in the middle of an upload, or not read in the middle of a download. Default 30 s.
	Progress time.Duration
	// ScaledCache is the memory that scaled pictures may take, in bytes; 0: pictures are served as
	// they are.
	ScaledCache int64
	// ScalePixels is the largest picture that is scaled, in pixels. Default 12,500,000, the photo
	// of a phone. While one is scaled it takes about 2 bytes of memory a pixel, at the worst 24.
	ScalePixels int
	// Scalers is how many pictures are scaled at once. Default 1.
	Scalers int
	// ScalePatience is how long a request waits for a picture to be scaled. Default 5 s.
	ScalePatience time.Duration
	// Log gets failures. Default: discarded.
	Log *slog.Logger
	// Registerer gets the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Server is the small-file server, an http.Handler.
type Server struct {
	opt     Options
	log     *slog.Logger
	uploads chan struct{}
	metrics metrics
	often   obs.Often
	scaler  *scaler
}

// New makes a small-file server.
func New(opt Options) *Server {
	if opt.MaxSize <= 0 {
		opt.MaxSize = 10 << 20
	}
	if opt.MaxUploads <= 0 {
		opt.MaxUploads = 64
	}
	if opt.Progress <= 0 {
		opt.Progress = 30 * time.Second
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.ScalePixels <= 0 {
		opt.ScalePixels = 12_500_000
	}
	if opt.Scalers <= 0 {
		opt.Scalers = 1
	}
	if opt.ScalePatience <= 0 {
		opt.ScalePatience = scalePatience
	}
	opt.URL = strings.TrimSuffix(opt.URL, "/")
	s := &Server{opt: opt, log: opt.Log.With("role", "msfs"), uploads: make(chan struct{}, opt.MaxUploads)}
	s.scaler = newScaler(s)
	s.metrics = newMetrics(opt.Registerer, s.scaler)
	return s
}

// ServeHTTP answers uploads and downloads.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; sandbox")
	switch r.Method {
	case http.MethodPost:
		s.upload(w, r)
	case http.MethodGet, http.MethodHead:
		s.download(w, r)
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	}
}

// Put stores a file and returns its URL: for servers in the same process. name is a file name with its ending. How much r may yield is the caller's to bound:
// MaxSize is for strangers.
func (s *Server) Put(ctx context.Context, name string, r io.Reader) (url string, err error) {
	stored := storedName(name)
	n, err := s.opt.Store.Put(ctx, stored, r, contentType(stored))
	if err != nil {
		return "", fmt.Errorf("store file: %w", err)
	}
	s.metrics.uploads.WithLabelValues("ok").Inc()
	s.metrics.bytesIn.Add(float64(n))
	return s.opt.URL + "/" + stored, nil
}

// Open opens the file at a URL that Put or an upload was told: for servers in the same process. The URL may be of a time when clients reached this server
// under another address. NotFound when it is no such URL, or the file is not there; else the errors are the store's.
func (s *Server) Open(ctx context.Context, url string) (*blob.Blob, error) {
	name := nameInURL.FindString(url)
	if name == "" {
		return nil, im.Errorf(im.NotFound, "not a URL of this server")
	}
	return s.opt.Store.Open(ctx, name[1:])
}

// nameInURL finds, with a slash before it, what storedName made, at the end of a URL.
var nameInURL = regexp.MustCompile(`/g0/[0-9]{3}/[0-9]{3}/[0-9a-f]{32}(_[0-9]{1,5}x[0-9]{1,5})?(\.[a-z0-9]{1,8})?$`)

// sizeInName finds what clients write into names of pictures: name_WxH.ending.
var sizeInName = regexp.MustCompile(`_([0-9]{1,5}x[0-9]{1,5})$`)

// storedName makes a name nobody can guess, in folders that do not grow without end, and keeps of the client's name the size and the ending: those
// are what other clients read out of it.
func storedName(client string) string {
	id := uuid.New()
	ending := strings.ToLower(path.Ext(client))
	size := sizeInName.FindString(strings.TrimSuffix(client, path.Ext(client)))
	if len(ending) < 2 || len(ending) > 9 || strings.Trim(ending[1:], "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		ending = ""
	}
	at := binary.BigEndian.Uint16(id[14:])
	return fmt.Sprintf("g0/%03d/%03d/%x%s%s", at>>8, at&0xff, id[:], size, ending)
}

// errTooLarge ends an upload of more than MaxSize.
var errTooLarge = errors.New("file is too large")

// limited fails a reader that yields more than is left to it.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left < 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1] // one more tells too large from just right
	}
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// filePart returns the first part of a form that is a file.
func filePart(form *multipart.Reader) (*multipart.Part, error) {
	for range maxParts {
		p, err := form.NextPart()
		if err != nil {
			return nil, err
		}
		if p.FileName() != "" {
			return p, nil
		}
	}
	return nil, im.Errorf(im.Invalid, "no file among the first %d parts", maxParts)
}

// maxParts is how many parts of a form are looked at for a file.
const maxParts = 16
