// Package msfs implements the small-file server: pictures, avatars and sounds over HTTP.
//
// A client uploads one file in a multipart form with POST, and receives its path and URL.
// Files are downloaded with GET. The server does not authenticate clients, as in the
// first implementation: a client must know the name of a file to download it, and names
// cannot be guessed. Uploads may need a ticket, which message servers give to clients that are
// logged in, see Tickets. Uploads are never held in memory whole, and never served with a type
// that a browser would run.
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
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"teamtalk/core/backoff"
	"teamtalk/core/blob"
	"teamtalk/core/im"
	"teamtalk/core/obs"
	option "teamtalk/core/opt"
)

// Options configures a Server. Zero values mean the defaults.
type Options struct {
	// Store stores the files. Required.
	Store blob.Store
	// URL is the address under which clients reach this server, as in
	// http://files.example.com:8700. The URL in the answer to an upload begins with it.
	// Default: the host that the uploading client used.
	URL string
	// MaxSize is the size of the largest file that is accepted, in bytes. Required.
	MaxSize int64
	// MaxUploads bounds the uploads at the same time. Further ones are refused as busy, and
	// those of an address that has as many in progress as others may begin. Required.
	MaxUploads int
	// Budget bounds the bytes that one address uploads.
	Budget Budget
	// Tickets says which uploads need a ticket.
	Tickets Tickets
	// Expiry says which files are deleted. It needs a Store that is a blob.Aged, and
	// Server.RunExpiry.
	Expiry Expiry
	// Usage returns how much of the store's quota is used. nil: it has none.
	Usage func() blob.Usage
	// Progress is the longest time that a client may be silent during an upload, or read
	// nothing during a download. Default 30 s.
	Progress time.Duration
	// Linger is the longest time that a client may be silent during an upload that was
	// refused, before the connection is closed. Default 2 s.
	Linger time.Duration
	// ScaledCache bounds the memory for scaled pictures, in bytes. 0: pictures are not
	// scaled.
	ScaledCache int64
	// ScalePixels is the size of the largest picture that is scaled, in pixels. Required with
	// ScaledCache. Scaling takes about 2 bytes of memory a pixel, at
	// most 24.
	ScalePixels int
	// Scalers is the number of pictures that are scaled at the same time. Default 1.
	Scalers int
	// ScalePatience is the longest time that a request waits for a picture to be scaled.
	// Default 5 s.
	ScalePatience time.Duration
	// Now returns the time, for tickets and Expiry. Default time.Now.
	Now func() time.Time
	// Log records failures. Default: discarded.
	Log *slog.Logger
	// Registerer registers the metrics. Default: none.
	Registerer prometheus.Registerer
}

// Server is the small-file server, an http.Handler.
type Server struct {
	opt     Options
	log     *slog.Logger
	slots   *slots
	budgets *budgets
	metrics metrics
	often   obs.Often   // for errors of the store
	over    obs.Often   // for the bounds of an uploader
	forged  obs.Often   // for tickets that are not valid
	bare    obs.Often   // for uploads without a ticket
	nearly  atomic.Bool // the log says that the quota is nearly used up
	scaler  *scaler
	uses    *uses  // nil: no file expires
	cache   string // value of Cache-Control
	pause   func(ctx context.Context, d time.Duration) error
}

// SetBudget replaces the Rate and the Burst of Options.Budget. Any goroutine.
func (s *Server) SetBudget(rate, burst int64) {
	if rate > 0 {
		option.Require("msfs.Budget.Burst", burst)
	}
	s.budgets.set(rate, burst)
}

// New returns a small-file server.
func New(opt Options) *Server {
	option.Require("msfs.MaxSize", opt.MaxSize)
	option.Require("msfs.MaxUploads", opt.MaxUploads)
	if opt.Budget.Rate > 0 {
		option.Require("msfs.Budget.Burst", opt.Budget.Burst)
	}
	if opt.ScaledCache > 0 {
		option.Require("msfs.ScalePixels", opt.ScalePixels)
	}
	option.Default(&opt.Progress, 30*time.Second)
	option.Default(&opt.Linger, 2*time.Second)
	option.Default(&opt.Scalers, 1)
	option.Default(&opt.ScalePatience, scalePatience)
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	opt.URL = strings.TrimSuffix(opt.URL, "/")
	s := &Server{opt: opt, log: opt.Log.With("role", "msfs"),
		slots:   newSlots(opt.MaxUploads),
		budgets: newBudgets(opt.Budget, time.Now), uses: newUses(&opt),
		cache: cacheForLong(opt.Expiry), pause: backoff.Sleep}
	s.scaler = newScaler(s)
	s.metrics = newMetrics(&opt, s.scaler)
	return s
}

// ServeHTTP handles uploads and downloads.
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

// Put stores a file and returns its URL, for servers in the same process. name is a file
// name with its extension. The caller must bound the size of r: MaxSize applies to HTTP
// uploads only.
func (s *Server) Put(ctx context.Context, name string, r io.Reader) (url string, err error) {
	stored := storedName(name)
	n, err := s.opt.Store.Put(ctx, stored, r, contentType(stored))
	if err != nil {
		return "", fmt.Errorf("store file: %w", err)
	}
	s.stored(n)
	s.used(ctx, stored) // the sound of a message that was delivered may not be read here
	return s.opt.URL + "/" + stored, nil
}

// stored counts a file of n bytes, and warns when the quota is nearly used up.
func (s *Server) stored(n int64) {
	s.metrics.uploads.WithLabelValues("ok").Inc()
	s.metrics.bytesIn.Add(float64(n))
	if s.opt.Usage == nil {
		return
	}
	u := s.opt.Usage()
	switch near := u.Bytes >= u.Quota/10*9; {
	case near && s.nearly.CompareAndSwap(false, true):
		s.log.Warn("files use 90 % of the quota; uploads and sounds are refused when it is used "+
			"up (setting msfs.quota)", "used_bytes", u.Bytes, "quota_bytes", u.Quota)
	case u.Bytes < u.Quota/10*8: // not at 90 %, so that a few deletions cause no second warning
		s.nearly.Store(false)
	}
}

// Open opens the file of a URL that Put or an upload returned, for servers in the same
// process. The URL may contain an earlier address of this server. The error is NotFound
// when url has another form or the file does not exist; other errors are the store's.
func (s *Server) Open(ctx context.Context, url string) (*blob.Blob, error) {
	name := nameInURL.FindString(url)
	if name == "" {
		return nil, im.Errorf(im.NotFound, "not a URL of this server")
	}
	b, err := s.opt.Store.Open(ctx, name[1:])
	if err == nil {
		s.used(ctx, name[1:])
	}
	return b, err
}

// nameInURL matches a name made by storedName at the end of a URL, with the slash before
// it.
var nameInURL = regexp.MustCompile(
	`/g0/[0-9]{3}/[0-9]{3}/[0-9a-f]{32}(_[0-9]{1,5}x[0-9]{1,5})?(\.[a-z0-9]{1,8})?$`)

// sizeInName matches the size that clients write into the names of pictures:
// name_WxH.extension.
var sizeInName = regexp.MustCompile(`_([0-9]{1,5}x[0-9]{1,5})$`)

// storedName returns a new name that cannot be guessed, in one of 65,536 folders. It
// keeps the size and the extension of the client's name, because other clients read them
// from the stored name.
func storedName(client string) string {
	id := uuid.New()
	ending := strings.ToLower(path.Ext(client))
	size := sizeInName.FindString(strings.TrimSuffix(client, path.Ext(client)))
	if len(ending) < 2 || len(ending) > 9 || strings.Trim(ending[1:],
		"abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		ending = ""
	}
	at := binary.BigEndian.Uint16(id[14:])
	return fmt.Sprintf("g0/%03d/%03d/%x%s%s", at>>8, at&0xff, id[:], size, ending)
}

// errTooLarge is the error of an upload above MaxSize.
var errTooLarge = errors.New("file is too large")

// limited is a reader that fails with errTooLarge once it has read more than left bytes.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left < 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1] // one byte more shows that the file is too large
	}
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// filePart returns the first part of form that is a file.
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

// maxParts is the number of parts that are searched for a file.
const maxParts = 16
