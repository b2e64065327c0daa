package msfs

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/blob"
	"teamtalk/core/im"
)

// picture returns a JPEG or PNG of w×h pixels.
func picture(t testing.TB, ending string, w, h int) []byte {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		m.SetRGBA(i%w, i/w, color.RGBA{uint8(i), uint8(i / w), 99, 255})
	}
	var b bytes.Buffer
	err := png.Encode(&b, m)
	if ending == ".jpg" {
		b.Reset()
		err = jpeg.Encode(&b, m, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// stores returns a folder and a bucket.
func stores(t *testing.T) map[string]blob.Store {
	t.Helper()
	folder, err := blob.OpenFolder(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { folder.Close() })
	backend := s3mem.New()
	if err := backend.CreateBucket("files"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewTLSServer(gofakes3.New(backend).Server())
	t.Cleanup(srv.Close)
	bucket, err := blob.OpenS3(blob.S3Options{Endpoint: strings.TrimPrefix(srv.URL, "https://"),
		Secure: true, Transport: srv.Client().Transport,
		Region: "us-east-1", Bucket: "files", AccessKey: "k", SecretKey: "s"})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]blob.Store{"folder": folder, "S3": bucket}
}

// TestScaled: a picture is served in the requested size, with type, ETag, ranges and HEAD
// as for any file.
func TestScaled(t *testing.T) {
	for name, store := range stores(t) {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.Store, o.ScaledCache = store, 1<<20 })
			for _, ending := range []string{".jpg", ".png"} {
				t.Run("a picture "+ending, func(t *testing.T) { scaledPicture(r.in(t), ending) })
			}
			t.Run("names that end in a size", func(t *testing.T) { sizedNames(r.in(t)) })
			if made := r.server.results(scaledMade); made != 6 {
				t.Errorf("%v pictures were scaled, want 6", made)
			}
		})
	}
}

// scaledPicture uploads a picture and requests it in two sizes.
func scaledPicture(r *rig, ending string) {
	at := "/" + r.upload("me_300x200"+ending, picture(r.T, ending, 300, 200)).Path
	rsp, data := r.get(at + "_100x100.jpg")
	m, format, err := image.Decode(bytes.NewReader(data))
	h := rsp.Header
	if err != nil || m.Bounds().Size() != image.Pt(100, 67) || rsp.StatusCode != 200 ||
		h.Get("Content-Type") != "image/"+format ||
		h.Get("Cache-Control") != cacheForLong(Expiry{}) ||
		h.Get("X-Content-Type-Options") != "nosniff" {
		r.Errorf("%s: status %d, %s, %v, %v", ending, rsp.StatusCode, format, h, err)
		return
	}
	whole, _ := r.get(at)
	if etag := h.Get("ETag"); etag == "" || etag == whole.Header.Get("ETag") {
		r.Errorf("%s: ETag %s, of the original %s", ending, etag, whole.Header.Get("ETag"))
	}
	small := at + "_100x100.jpg"
	for _, path := range []string{small, "/" + small, at + "_100x100.png", at + "_100x100.JPG",
		at + "_100x100.Jpeg"} {
		if rsp, again := r.get(path); rsp.StatusCode != 200 || !bytes.Equal(again, data) ||
			rsp.Header.Get("ETag") != h.Get("ETag") {
			r.Errorf("%s again: status %d, %d bytes", path, rsp.StatusCode, len(again))
		}
	}
	rsp, part := r.get(small, "Range", "bytes=5-9")
	if rsp.StatusCode != 206 || !bytes.Equal(part, data[5:10]) {
		r.Errorf("%s: range: status %d, %x", ending, rsp.StatusCode, part)
	}
	if rsp, _ := r.get(small, "If-None-Match", h.Get("ETag")); rsp.StatusCode != 304 {
		r.Errorf("%s: with its ETag: status %d", ending, rsp.StatusCode)
	}
	head, err := http.Head(r.url + at + "_32x32.jpg") // not made before
	if err != nil {
		r.Fatal(err)
	}
	_, tiny := r.get(at + "_32x32.jpg")
	if n := int64(len(tiny)); head.StatusCode != 200 || head.ContentLength != n ||
		n >= int64(len(data)) {
		r.Errorf("%s: HEAD: status %d, %d bytes of %d", ending, head.StatusCode,
			head.ContentLength, n)
	}
}

// sizedNames requests files of the first implementation, whose names may end in a size.
func sizedNames(r *rig) {
	big := picture(r.T, ".jpg", 200, 200)
	for name, data := range map[string][]byte{"g0/000/001/a.jpg": big, "g0/000/001/b.jpg": big,
		"g0/000/001/C.JPG":           big,
		"g0/000/001/b.jpg_10x10.jpg": []byte("stored")} {
		_, err := r.server.opt.Store.Put(r.Context(), name, bytes.NewReader(data), "image/jpeg")
		if err != nil {
			r.Fatal(err)
		}
	}
	if _, got := r.get("/g0/000/001/b.jpg_10x10.jpg"); string(got) != "stored" {
		r.Errorf("a stored file of the name: %d bytes", len(got))
	}
	for _, path := range []string{"/g0/000/001/a.jpg_10x10.jpg", "/g0/000/001/C.JPG_10x10.JPG"} {
		rsp, got := r.get(path)
		if rsp.StatusCode != 200 || len(got) == 0 || len(got) >= len(big) {
			r.Errorf("%s: status %d, %d bytes of %d", path, rsp.StatusCode, len(got), len(big))
		}
	}
	if rsp, _ := r.get("/g0/000/001/C.JPG"); rsp.Header.Get("Content-Type") != "image/jpeg" {
		r.Errorf("an ending in capitals: type %q", rsp.Header.Get("Content-Type"))
	}
	if rsp, _ := r.get("/g0/000/001/c.jpg_10x10.jpg"); rsp.StatusCode != 404 {
		r.Errorf("another name than the stored one: status %d", rsp.StatusCode)
	}
}

// TestNotScaled: the original is served where no smaller picture can be made.
func TestNotScaled(t *testing.T) {
	r := newRig(t, func(o *Options) { o.ScaledCache, o.ScalePixels = 1<<20, 100*100 })
	small, large, text := picture(t, ".png", 20, 20), picture(t, ".png", 101, 100), []byte("<html>")
	for _, c := range []struct {
		name   string
		data   []byte
		size   string
		kind   string
		result string
	}{
		{"a.png", small, "_100x100.jpg", "image/png", "fits"},
		{"a.png", large, "_50x50.jpg", "image/png", "large"},
		{"a.png", small, "_0x10.jpg", "image/png", scaledSize},
		{"a.png", small, "_10x1025.jpg", "image/png", scaledSize},
		{"a.png", small, "_99999x99999.jpg", "image/png", scaledSize},
		{"a.html", text, "_10x10.jpg", bytesType, "unknown"},
		{"a.jpg", text, "_10x10.jpg", "image/jpeg", "unknown"},
		{"a", text, "_10x10.jpg", bytesType, "unknown"},
	} {
		at := "/" + r.upload(c.name, c.data).Path + c.size
		before := r.server.results(c.result)
		rsp, got := r.get(at)
		h := rsp.Header
		if rsp.StatusCode != 200 || !bytes.Equal(got, c.data) || h.Get("Content-Type") != c.kind ||
			(h.Get("Content-Disposition") == "attachment") != (c.kind == bytesType) ||
			h.Get("Cache-Control") != cacheForLong(Expiry{}) {
			t.Errorf("%s%s: status %d, %d bytes, %v", c.name, c.size, rsp.StatusCode, len(got), h)
		}
		if n := r.server.results(c.result) - before; n != 1 {
			t.Errorf("%s%s: %v counted as %s", c.name, c.size, n, c.result)
		}
		r.get(at) // the result "cannot be scaled" is cached
		if n := r.server.results(c.result) - before; n != 1 && c.result != scaledSize {
			t.Errorf("%s%s: %v counted as %s after the second request", c.name, c.size, n, c.result)
		}
	}
	there := r.upload("a.png", large).Path
	for _, path := range []string{
		"/g0/000/000/none.jpg_10x10.jpg", "/_10x10.jpg", "/../x_10x10.jpg", "/.tmp/x_10x10.jpg",
		"/" + there + "_10x10.svg", "/" + there + "_-1x10.jpg", "/" + there + "_10x.jpg",
		"/" + there + "_100000x1.jpg", "/" + there + "_10x10.jpg_10x10.jpg",
		"/" + strings.Repeat("x", 300) + "_10x10.jpg",
	} {
		if rsp, _ := r.get(path); rsp.StatusCode != 404 {
			t.Errorf("GET %.60s: status %d", path, rsp.StatusCode)
		}
	}
	off := newRig(t, nil)
	at := "/" + off.upload("a.png", large).Path
	if rsp, got := off.get(at + "_10x10.jpg"); rsp.StatusCode != 200 || !bytes.Equal(got, large) {
		t.Errorf("with scaling off: status %d, %d bytes", rsp.StatusCode, len(got))
	}
}

// results returns the number of requests with a result.
func (s *Server) results(result string) float64 {
	return testutil.ToFloat64(s.metrics.scaled.WithLabelValues(result))
}

// TestScaledRoom: neither many pictures nor many sizes of one exceed the limit of the
// cache, and many sizes of one picture do not evict other pictures.
func TestScaledRoom(t *testing.T) {
	const room = 64 << 10
	r := newRig(t, func(o *Options) { o.ScaledCache = room })
	c := r.server.scaler
	first := r.upload("a.jpg", picture(t, ".jpg", 200, 200)).Path
	other := r.upload("b.jpg", picture(t, ".jpg", 200, 200)).Path
	r.get("/" + other + "_10x10.jpg")
	for i := range 3 * maxSizes {
		r.get(fmt.Sprintf("/%s_%dx%d.jpg", first, 10+i, 10+i))
	}
	list, _ := c.kept.Peek(first)
	if len(list) != maxSizes || list[maxSizes-1].size.X != 10+3*maxSizes-1 {
		t.Errorf("%d sizes are kept", len(list))
	}
	if _, ok := c.cached(other, image.Pt(10, 10)); !ok {
		t.Error("another picture was evicted")
	}
	for range 30 {
		r.get("/" + r.upload("c.png", picture(t, ".png", 120, 120)).Path + "_100x100.jpg")
	}
	sum := int64(0)
	for _, path := range c.kept.Keys() {
		list, _ := c.kept.Peek(path)
		for i := range list {
			sum += list[i].bytes()
		}
	}
	if sum != c.bytes || sum > room || sum < room/2 || c.keptBytes() != float64(sum) {
		t.Errorf("%d bytes are kept, %d counted, %d allowed", sum, c.bytes, room)
	}
}

// heldStore is a store whose Open blocks when a picture is opened for scaling.
type heldStore struct {
	blob.Store
	data  []byte
	opens atomic.Int64 // calls of Open for scaling
	enter chan struct{}
	fail  error
}

// Open tells scaling from serving by the deadline of the context.
func (s *heldStore) Open(ctx context.Context, name string) (*blob.Blob, error) {
	if strings.HasSuffix(name, "0.jpg") {
		return nil, im.Errorf(im.NotFound, "no such blob")
	}
	if _, scales := ctx.Deadline(); scales {
		s.opens.Add(1)
		<-s.enter
		if s.fail != nil {
			return nil, s.fail
		}
	}
	return &blob.Blob{ReadSeekCloser: nopCloser{bytes.NewReader(s.data)}, Size: int64(len(s.data)),
		ETag: `"x"`}, nil
}

type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }

// scalings requests scaled pictures from a server whose store is held, and counts the
// answers.
type scalings struct {
	t         *testing.T
	store     *heldStore
	s         *Server
	wg        sync.WaitGroup
	scaled    atomic.Int64
	originals atomic.Int64 // answers with the original, which may be cached for a minute
}

func newScalings(t *testing.T) *scalings {
	store := &heldStore{data: picture(t, ".jpg", 64, 64), enter: make(chan struct{})}
	return &scalings{t: t, store: store, s: newServer(Options{Store: store, ScaledCache: 1 << 20})}
}

func (c *scalings) ask(path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	c.s.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w
}

// get requests a picture in a goroutine of wg.
func (c *scalings) get(path string) {
	c.wg.Go(func() {
		switch w := c.ask(path); {
		case w.Header().Get("Cache-Control") == cacheForLong(Expiry{}) &&
			w.Body.Len() < len(c.store.data):
			c.scaled.Add(1)
		case w.Header().Get("Cache-Control") == cacheAMinute &&
			bytes.Equal(w.Body.Bytes(), c.store.data):
			c.originals.Add(1)
		default:
			c.t.Errorf("%s: %v", path, w.Header())
		}
	})
}

// TestScalingTogether: many requests for one picture scale it once, one picture is scaled
// at a time, and the original is served when too many pictures wait.
func TestScalingTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newScalings(t)
		for range 10 {
			c.get("/a_10x10.jpg")
		}
		synctest.Wait()
		for i := range maxScaling + 6 {
			c.get(fmt.Sprintf("/b%d_10x10.jpg", i))
		}
		synctest.Wait()
		if n := c.originals.Load(); n != 7 || c.s.results(scaledBusy) != 7 {
			t.Errorf("%d originals were served at once, want 7", n)
		}
		if n := c.store.opens.Load(); n != 1 {
			t.Errorf("%d pictures are scaled at once, want 1", n)
		}
		close(c.store.enter)
		c.wg.Wait()
		if n, opened := c.scaled.Load(), c.store.opens.Load(); n != 10+maxScaling-1 ||
			opened != maxScaling {
			t.Errorf("%d answers with a scaled picture, %d pictures scaled", n, opened)
		}
	})
}

// TestScalingSlow: the original is served when scaling takes too long. The late picture
// is cached.
func TestScalingSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newScalings(t)
		begun := time.Now()
		c.get("/slow_10x10.jpg")
		c.wg.Wait()
		if d := time.Since(begun); d != scalePatience || c.originals.Load() != 1 {
			t.Errorf("waited %v, %d originals", d, c.originals.Load())
		}
		close(c.store.enter)
		synctest.Wait()
		if w := c.ask("/slow_10x10.jpg"); w.Body.Len() >= len(c.store.data) ||
			c.s.results(scaledCached) != 1 {
			t.Errorf("the late picture is not cached: %d bytes", w.Body.Len())
		}
	})
}

// TestScalingFails: the original is served when the store fails, and the failure is not
// cached.
func TestScalingFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newScalings(t)
		close(c.store.enter)
		c.store.fail = im.Errorf(im.Unavailable, "bucket away")
		c.get("/fails_10x10.jpg")
		c.wg.Wait()
		c.store.fail = nil
		if c.originals.Load() != 1 || c.s.results(scaledFailed) != 1 {
			t.Errorf("the store fails: %d originals", c.originals.Load())
		}
		c.get("/fails_10x10.jpg")
		c.wg.Wait()
		if n := c.scaled.Load(); n != 1 {
			t.Error("a failure of the store is cached")
		}
	})
}

func FuzzParseScaled(f *testing.F) {
	f.Add("g0/000/001/x.jpg_100x100.jpg")
	f.Add("a_1x1.png_2x2.jpg")
	f.Fuzz(func(t *testing.T, name string) {
		path, size, ok := parseScaled(name)
		if ok && (path == "" || !strings.HasPrefix(name, path+"_") || size.X < 0 || size.Y < 0 ||
			size.X > 99999) {
			t.Errorf("%q: %q, %v", name, path, size)
		}
	})
}
