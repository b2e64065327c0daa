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

// Clients show a picture small by asking for <path>_WxH.jpg. It is scaled once and kept in
// memory: a picture that cannot be scaled, or not now, is served as it is, since every client
// can show it in any size.
//
// Anybody may upload pictures and ask for any size. So sizes, pixels, time, the number of
// pictures that are scaled or wait for it, the memory kept, and the sizes kept of one picture
// all have limits; scaling never takes more than one or two cores.

const (
	// maxSide is the largest width or height that is made, in pixels. Clients ask for up to 310.
	maxSide = 1024
	// maxScaling bounds the pictures that are scaled or wait for it.
	maxScaling = 32
	// maxSizes bounds the sizes kept of one picture; clients ask for about five.
	maxSizes = 8
	// scaleTime limits the reading and decoding of one picture.
	scaleTime = 10 * time.Second
	// scalePatience is how long a request waits for its picture before it gets the original.
	scalePatience = 5 * time.Second
	// keptOverhead is counted for each picture kept beside its bytes.
	keptOverhead = 512
)

// scaledName is what clients append to a path. The ending does not choose the format.
var scaledName = regexp.MustCompile(`^(.+)_([0-9]{1,5})x([0-9]{1,5})\.(?:jpg|jpeg|png)$`)

// parseScaled returns the path and the size that a name asks for; false when it asks for none.
func parseScaled(name string) (path string, size image.Point, ok bool) {
	m := scaledName.FindStringSubmatch(name)
	if m == nil {
		return "", image.Point{}, false
	}
	w, errW := strconv.Atoi(m[2])
	h, errH := strconv.Atoi(m[3])
	return m[1], image.Pt(w, h), errW == nil && errH == nil
}

// The results of scaling, as metrics name them. Those of thumb.AsIs are others.
const (
	scaledMade   = "made"
	scaledCached = "cached"
	scaledBusy   = "busy"   // too many at once, or not ready in time
	scaledFailed = "failed" // the store, or the scaling itself
	scaledSize   = "size"   // a size that is not made
)

// scaled is a picture of one size. A nil picture means that the original is served.
type scaled struct {
	size image.Point
	*thumb.Picture
	etag     string // of this size, with its quotes
	modified time.Time
}

func (v *scaled) bytes() int64 {
	if v.Picture == nil {
		return keptOverhead
	}
	return keptOverhead + int64(len(v.Data))
}

// scaling is a picture that is scaled or waits for it. The result is valid once done is closed.
type scaling struct {
	done   chan struct{}
	result scaled
	err    error
}

type scalingKey struct {
	path string
	size image.Point
}

// scaler scales pictures and keeps them. Any goroutine.
type scaler struct {
	s     *Server
	slots chan struct{} // one for each picture that is scaled at this moment

	mu      sync.Mutex
	running map[scalingKey]*scaling
	kept    *simplelru.LRU[string, []scaled] // by path; the size used last is the last
	bytes   int64                            // of all kept
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

// cached returns a picture that is kept.
func (c *scaler) cached(path string, size image.Point) (scaled, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.find(scalingKey{path, size})
	if ok {
		c.count(scaledCached)
	}
	return v, ok
}

// get returns the picture of that size. ready is false when there was no time or room to scale
// it. The error is that of the store.
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

// begin returns the scaling of a picture, begun now unless another request did; nil when there
// are too many.
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

// find returns a picture that is kept. With mu held.
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

// keep keeps a picture and evicts those used least recently. With mu held.
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

// run scales a picture when it is its turn, and keeps the result.
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

// scale reads the original and scales it. A picture that makes a decoder panic is served as it
// is.
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

// keptBytes is how much memory the pictures kept take.
func (c *scaler) keptBytes() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return float64(c.bytes)
}

// How long clients and proxies may keep what they get.
const (
	cacheForEver = "public, max-age=31536000, immutable" // a name is never given to another file
	cacheAMinute = "public, max-age=60"                  // the original instead of a scaled picture
)

// serveScaled serves the picture at path in a size, or the original.
func (s *Server) serveScaled(w http.ResponseWriter, r *http.Request, path string,
	size image.Point) {
	b, err := s.opt.Store.Open(r.Context(), path)
	if err != nil {
		s.missing(w, err)
		return
	}
	defer b.Close()
	v, ready, err := s.scaler.get(r.Context(), path, size)
	if err != nil {
		s.complain("picture not scaled", err)
	}
	if v.Picture != nil {
		s.serve(w, r, v.content())
		return
	}
	c := original(path, b)
	if err != nil || !ready {
		c.cache = cacheAMinute
	}
	s.serve(w, r, c)
}

// content is a scaled picture to be served.
func (v *scaled) content() *content {
	return &content{ReadSeeker: bytes.NewReader(v.Data), kind: v.Type, etag: v.etag,
		modified: v.modified, cache: cacheForEver}
}
