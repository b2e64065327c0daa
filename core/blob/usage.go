package blob

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"

	"teamtalk/core/im"
)

// ErrQuota is the cause of an error of Put for which the quota has no room. Its kind is Busy.
var ErrQuota = errors.New("the quota is used up")

// block is the unit of the quota, in bytes. A blob takes whole blocks, as on most disks, so
// that many tiny blobs use up the quota too.
const block = 4 << 10

// Usage tells how much of a quota is used.
type Usage struct {
	Bytes int64 // of all blobs, each in blocks of 4 KiB
	Quota int64 // in bytes; 0: none
}

// usage counts the bytes of a Folder with a quota. Blobs that are being written count with
// what has arrived of them.
type usage struct {
	quota atomic.Int64 // 0: nothing is counted
	bytes atomic.Int64

	counted chan struct{} // closed when Count has ended

	mu sync.Mutex
	// fresh are the names that were stored before Count ended. Put counts them, so Count
	// does not. nil when Count has ended.
	fresh map[string]struct{}
}

// SetQuota bounds the bytes of all blobs. It must precede the first Put, and Count must
// follow.
func (f *Folder) SetQuota(bytes int64) {
	if bytes <= 0 {
		return
	}
	f.usage.quota.Store(bytes)
	f.usage.counted = make(chan struct{})
	f.usage.fresh = map[string]struct{}{}
}

// ChangeQuota replaces the quota of SetQuota. A folder without a quota counts nothing, so it stays
// without, and a quota stays one: bytes must be positive. Blobs beyond a lower one stay. Any
// goroutine.
func (f *Folder) ChangeQuota(bytes int64) {
	if bytes > 0 && f.usage.quota.Load() > 0 {
		f.usage.quota.Store(bytes)
	}
}

// Usage returns how much of the quota is used. Any goroutine.
func (f *Folder) Usage() Usage {
	return Usage{Bytes: f.usage.bytes.Load(), Quota: f.usage.quota.Load()}
}

// Count counts the blobs of earlier processes against the quota, and returns their number.
// It runs once, beside Put and Open. Until it ends, the quota has room for the blobs that
// are not counted yet, and Delete waits. After an error the quota counts the rest as nothing.
func (f *Folder) Count(ctx context.Context) (blobs int, err error) {
	if f.usage.quota.Load() == 0 {
		return 0, nil
	}
	defer f.usage.end()
	err = fs.WalkDir(f.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		case name == tmpDir:
			return fs.SkipDir
		case !d.Type().IsRegular(), strings.HasSuffix(name, markEnd), name == noteName:
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) { // another program removed it
			return nil
		}
		if err == nil {
			blobs++
			f.usage.found(name, info.Size())
		}
		return err
	})
	return blobs, diskError("count the blobs", err)
}

// inBlocks returns the bytes that a blob of a size takes.
func inBlocks(size int64) int64 { return (size + block - 1) / block * block }

// found counts a blob that Count has found.
func (u *usage) found(name string, size int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.fresh[name]; !ok {
		u.bytes.Add(inBlocks(size))
	}
}

// end ends the count.
func (u *usage) end() {
	u.mu.Lock()
	u.fresh = nil
	u.mu.Unlock()
	close(u.counted)
}

// note records that Put counts a blob. The caller does so before the blob has its name. undo
// takes it back.
func (u *usage) note(name string) (undo func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, again := u.fresh[name]; u.fresh == nil || again {
		return func() {}
	}
	u.fresh[name] = struct{}{}
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.fresh, name)
	}
}

// await returns when Count has ended, so that it counts no blob that is deleted meanwhile.
func (u *usage) await(ctx context.Context) error {
	if u.counted == nil {
		return nil
	}
	select {
	case <-u.counted:
		return nil
	case <-ctx.Done():
		return im.WithKind(im.Busy, "the blobs are being counted", ctx.Err())
	}
}

// take counts n more bytes. When the quota has no room it counts none and returns an error.
func (u *usage) take(n int64) error {
	quota := u.quota.Load()
	if quota == 0 || n == 0 {
		return nil
	}
	if sum := u.bytes.Add(n); sum > quota {
		u.bytes.Add(-n)
		return im.WithKind(im.Busy, "blob not stored", ErrQuota)
	}
	return nil
}

// give takes back n bytes.
func (u *usage) give(n int64) {
	if u.quota.Load() != 0 {
		u.bytes.Add(-n)
	}
}

// measured is a reader that counts against the quota what it reads, and fails when the quota
// has no room.
type measured struct {
	r     io.Reader
	u     *usage
	n     int64 // bytes read
	taken int64 // bytes counted
}

func (m *measured) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.n += int64(n)
	more := inBlocks(m.n) - m.taken
	if full := m.u.take(more); full != nil {
		return 0, full
	}
	m.taken += more
	return n, err
}
