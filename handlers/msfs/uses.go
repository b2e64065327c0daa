package msfs

import (
	"context"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"teamtalk/core/blob"
	"teamtalk/core/im"
)

// uses marks the files that are read, when files expire. A mark is written at most once in
// Expiry.markEvery for a file.
type uses struct {
	store blob.Aged

	mu sync.Mutex // held for a few operations
	of *simplelru.LRU[string, time.Time]
}

// maxUses bounds the files whose last mark is remembered in memory. For other files the store
// is asked.
const maxUses = 1 << 16

// markPatience bounds the time for the mark of a file.
const markPatience = 5 * time.Second

// newUses returns the marks of a store; nil when no file expires.
func newUses(opt *Options) *uses {
	if !opt.Expiry.On() {
		return nil
	}
	store, ok := opt.Store.(blob.Aged)
	if !ok {
		panic("msfs.Expiry needs a blob.Aged")
	}
	u := &uses{store: store}
	// NewLRU fails only when the size is not positive.
	u.of, _ = simplelru.NewLRU[string, time.Time](maxUses, nil)
	return u
}

// marked reports whether a file has a mark that is younger than every, as far as is known. It
// takes a file without one for marked from now on.
func (u *uses) marked(name string, now time.Time, every time.Duration) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	last, ok := u.of.Get(name)
	if age := now.Sub(last); ok && age < every && age > -every {
		return true
	}
	u.of.Add(name, now)
	return false
}

func (u *uses) forget(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.of.Remove(name)
}

// used records that a file is read. It precedes the answer, so that a kill does not lose a read
// that a client saw. A file whose mark cannot be written is served nevertheless.
func (s *Server) used(ctx context.Context, name string) {
	if s.uses == nil || !strings.HasPrefix(name, expiryFolder+"/") {
		return
	}
	now, every := s.opt.Now(), s.opt.Expiry.markEvery()
	if s.uses.marked(name, now, every) {
		return
	}
	// The client's disconnect must not lose the mark.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), markPatience)
	defer cancel()
	a, err := s.uses.store.Age(ctx, name)
	if err == nil && (a.Read.IsZero() || now.Sub(a.Read) >= every || now.Before(a.Read)) {
		if err = s.uses.store.Mark(ctx, name, now); err == nil {
			s.metrics.marks.WithLabelValues("written").Inc()
		}
	}
	if err != nil {
		s.uses.forget(name)
	}
	if err != nil && im.KindOf(err) != im.NotFound { // else it was deleted a moment ago
		s.metrics.marks.WithLabelValues("failed").Inc()
		s.complain("a file that is read is not marked, and may expire early", err)
	}
}

// forget removes what is in memory of a file that was deleted.
func (s *Server) forget(name string) {
	s.uses.forget(name)
	s.scaler.forget(name)
}

// Use records that a file is needed, for servers in the same process that know of references to
// it. name may be that of a scaled picture, like in a download. The name of no file has no effect.
func (s *Server) Use(ctx context.Context, name string) {
	if blob.Check(name) != nil {
		return
	}
	s.used(ctx, name)
	if path, _, sized := parseScaled(name); sized && blob.Check(path) == nil {
		s.used(ctx, path)
	}
}

// FileInURL returns the name of the file at a URL of a small file server, or ""; url may be a
// name alone. It does not check the host, because a server may have several names.
func FileInURL(url string) string {
	m := fileInURL.FindStringSubmatch(url)
	if m == nil || blob.Check(m[1]) != nil {
		return ""
	}
	return m[1]
}

// fileInURL matches the name of a file at the end of a URL, or a name alone.
var fileInURL = regexp.MustCompile(`(?:^|/)(` + expiryFolder + `/[0-9]{3}/[0-9]{3}/[^/]+)$`)
