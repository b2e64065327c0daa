package msfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"teamtalk/core/thumb"
)

// Clients show a small picture by requesting <path>_WxH.jpg. The server scales it once
// and caches it in memory. When a picture cannot be scaled, or not now, the original is
// served, because every client can scale it on the screen.
//
// Outsiders may upload pictures and request any size. So the server bounds the sizes, the
// pixels, the time, the number of pictures that are being scaled or wait for it, the
// memory of the cache, and the cached sizes of each picture. Scaling uses at most
// Options.Scalers cores.

const (
	// maxSide is the largest width or height of a scaled picture, in pixels. Clients
	// request at most 310.
	maxSide = 1024
	// maxScaling bounds the pictures that are being scaled or wait for it.
	maxScaling = 32
	// maxSizes bounds the cached sizes of one picture. Clients request about five.
	maxSizes = 8
	// scaleTime bounds the reading and decoding of one picture.
	scaleTime = 10 * time.Second
	// scalePatience is the default of Options.ScalePatience.
	scalePatience = 5 * time.Second
	// keptOverhead is added to the size of each cached picture for its entry in the
	// cache.
	keptOverhead = 512
)

// scaledName matches a path with the size that clients append. The extension, in small letters
// or capitals, does not choose the format.
var scaledName = regexp.MustCompile(`^(.+)_([0-9]{1,5})x([0-9]{1,5})\.(?i:jpg|jpeg|png)$`)

// parseScaled returns the path and the size in a requested name; false when the name has
// no size.
func parseScaled(name string) (path string, size image.Point, ok bool) {
	m := scaledName.FindStringSubmatch(name)
	if m == nil {
		return "", image.Point{}, false
	}
	w, errW := strconv.Atoi(m[2])
	h, errH := strconv.Atoi(m[3])
	return m[1], image.Pt(w, h), errW == nil && errH == nil
}

// The results of scaling in the metrics. The reasons of thumb.AsIs are further results.
const (
	scaledMade   = "made"
	scaledCached = "cached"
	scaledBusy   = "busy"   // too many pictures at once, or the time to wait was over
	scaledFailed = "failed" // the store or the scaling failed
	scaledSize   = "size"   // the size is above maxSide or 0, or the cache is off
)

// scaled is a picture of one size. When Picture is nil, the original is served.
type scaled struct {
	size image.Point
	*thumb.Picture
	etag     string // of this size, including its quotes
	modified time.Time
}

func (v *scaled) bytes() int64 {
	if v.Picture == nil {
		return keptOverhead
	}
	return keptOverhead + int64(len(v.Data))
}

// scaling is a picture that is being scaled or waits for it. result and err are valid
// once done is closed.
type scaling struct {
	done   chan struct{}
	result scaled
	err    error
}

type scalingKey struct {
	path string
	size image.Point
}

// scaler scales pictures and caches them. Any goroutine.
type scaler struct {
	s     *Server
	slots chan struct{} // one entry for each picture that is being scaled

	mu      sync.Mutex
	running map[scalingKey]*scaling
	kept    *simplelru.LRU[string, []scaled] // by path; each list is ordered by last use
	bytes   int64                            // total size of kept
}

func newScaler(s *Server) *scaler {
	c := &scaler{s: s, slots: make(chan struct{}, s.opt.Scalers),
		running: map[scalingKey]*scaling{}}
	var err error
	c.kept, err = simplelru.NewLRU(1<<30, func(_ string, list []scaled) {
		for i := range list {
			c.bytes -= list[i].bytes()
		}
	})
	if err != nil {
		panic(err) // the size is a positive constant; bytes are the limit
	}
	return c
}

// cached returns a cached picture.
func (c *scaler) cached(path string, size image.Point) (scaled, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.find(scalingKey{path, size})
	if ok {
		c.count(scaledCached)
	}
	return v, ok
}

// get returns the picture of that size, scaled now unless it is cached. ready is false
// when it was busy or the time to wait was over. The error is the store's.
func (c *scaler) get(ctx context.Context, path string, size image.Point) (
	v scaled, ready bool, err error) {
	made := size.X >= 1 && size.Y >= 1 && size.X <= maxSide && size.Y <= maxSide
	if !made || c.s.opt.ScaledCache <= 0 {
		c.count(scaledSize)
		return scaled{}, true, nil
	}
	one := c.begin(scalingKey{path, size})
	if one == nil {
		c.count(scaledBusy)
		return scaled{}, false, nil
	}
	patience := time.NewTimer(c.s.opt.ScalePatience)
	defer patience.Stop()
	select {
	case <-one.done:
		return one.result, true, one.err
	case <-patience.C:
	case <-ctx.Done():
	}
	c.count(scaledBusy)
	return scaled{}, false, nil
}

// begin returns the scaling of a picture, which it starts unless another request has
// started it; nil when maxScaling pictures are in progress.
func (c *scaler) begin(key scalingKey) *scaling {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.find(key); ok {
		one := &scaling{done: make(chan struct{}), result: v}
		close(one.done)
		return one
	}
	one := c.running[key]
	if one == nil && len(c.running) < maxScaling {
		one = &scaling{done: make(chan struct{})}
		c.running[key] = one
		go c.run(key, one)
	}
	return one
}

// find returns a cached picture and marks it as used. The caller holds mu.
func (c *scaler) find(key scalingKey) (scaled, bool) {
	list, _ := c.kept.Get(key.path)
	for i, v := range list {
		if v.size == key.size {
			copy(list[i:], list[i+1:])
			list[len(list)-1] = v
			return v, true
		}
	}
	return scaled{}, false
}

// keep adds a picture to the cache, and evicts the least recently used ones above the
// limit. The caller holds mu.
func (c *scaler) keep(path string, v scaled) {
	list, _ := c.kept.Get(path)
	if len(list) == maxSizes {
		c.bytes -= list[0].bytes()
		list = append(list[:0:0], list[1:]...)
	}
	c.kept.Add(path, append(list, v))
	c.bytes += v.bytes()
	for c.bytes > c.s.opt.ScaledCache {
		c.kept.RemoveOldest()
	}
}

// forget removes the pictures of a file that was deleted from the cache.
func (c *scaler) forget(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept.Remove(path)
}

// run waits for a slot, scales a picture, and adds the result to the cache.
func (c *scaler) run(key scalingKey, one *scaling) {
	c.slots <- struct{}{}
	one.result, one.err = c.scale(key)
	<-c.slots
	result := scaledMade
	var asIs *thumb.AsIs
	switch {
	case errors.As(one.err, &asIs):
		result, one.err = asIs.Reason, nil
	case one.err != nil:
		result = scaledFailed
	}
	c.count(result)
	c.mu.Lock()
	delete(c.running, key)
	if one.err == nil {
		c.keep(key.path, one.result)
	}
	c.mu.Unlock()
	close(one.done)
}

// scale reads the original and scales it. When the decoder panics, the original is
// served.
func (c *scaler) scale(key scalingKey) (v scaled, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), scaleTime)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			c.s.log.Error("picture not scaled", "path", key.path, "panic", r)
			err = &thumb.AsIs{Reason: thumb.Unknown}
		}
	}()
	v.size = key.size
	b, err := c.s.opt.Store.Open(ctx, key.path)
	if err != nil {
		return v, err
	}
	defer b.Close()
	v.modified = b.Modified
	v.etag = fmt.Sprintf(`"%s-%dx%d"`, strings.Trim(b.ETag, `"`), key.size.X, key.size.Y)
	v.Picture, err = thumb.Scale(ctx, b, key.size, c.s.opt.ScalePixels)
	return v, err
}

func (c *scaler) count(result string) { c.s.metrics.scaled.WithLabelValues(result).Inc() }

// keptBytes returns the memory of the cached pictures.
func (c *scaler) keptBytes() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return float64(c.bytes)
}

// cacheAMinute is the Cache-Control of an original in place of a scaled picture.
const cacheAMinute = "public, max-age=60"

// cacheYear is the longest time for which clients and proxies may cache an answer.
const cacheYear = 365 * 24 * time.Hour

// cacheForLong returns the Cache-Control of files, whose content never changes. Caches ask again
// before a file expires, so that a file that they show counts as read.
func cacheForLong(e Expiry) string {
	long := cacheYear
	if e.After > 0 {
		long = min(long, e.After/2)
	}
	return fmt.Sprintf("public, max-age=%d, immutable", int64(long/time.Second))
}

// serveScaled serves the picture at path in a size, or the original.
func (s *Server) serveScaled(w http.ResponseWriter, r *http.Request, path string,
	size image.Point) {
	b, err := s.opt.Store.Open(r.Context(), path)
	if err != nil {
		s.missing(w, err)
		return
	}
	defer b.Close()
	s.used(r.Context(), path)
	v, ready, err := s.scaler.get(r.Context(), path, size)
	if err != nil {
		s.complain("picture not scaled", err)
	}
	if v.Picture != nil {
		s.serve(w, r, s.picture(&v))
		return
	}
	c := s.original(path, b)
	if err != nil || !ready {
		c.cache = cacheAMinute
	}
	s.serve(w, r, c)
}

// picture returns the content of a scaled picture.
func (s *Server) picture(v *scaled) *content {
	return &content{ReadSeeker: bytes.NewReader(v.Data), kind: v.Type, etag: v.etag,
		modified: v.modified, cache: s.cache}
}
