package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"teamtalk/core/client"
	"teamtalk/core/im"
)

// What may become of a file. JSON says the same words.
const (
	fileComing    = "coming"    // its sender is bringing it to the server
	fileOffered   = "offered"   // its sender waits for it to be fetched
	fileWaiting   = "waiting"   // the server keeps it
	fileSending   = "sending"   //
	fileFetching  = "fetching"  //
	fileDone      = "done"      // sent: with the server, or with the receiver; fetched: on this disk
	fileCancelled = "cancelled" // by either side
	fileRefused   = "refused"   // by the receiver
	fileFailed    = "failed"    //
	filePaused    = "paused"    // goes on with the next login
)

// maxDesk is how many files a session remembers; the oldest that nothing can be done with are forgotten first.
const maxDesk = 2000

// fileEntry is a file of the session. The desk hands out copies.
type fileEntry struct {
	n      int // by which people and programs name it, from 1
	file   client.File
	name   string // safe to show and to use
	mine   bool   // sent, not received
	state  string
	moved  int64
	rate   float64 // bytes a second, since the first of them in this session
	path   string  // of what is sent, or was fetched
	err    error
	listed bool // the server told of it when asked, nobody did when it came
}

// over reports whether nothing will become of it any more.
func (e fileEntry) over() bool {
	switch e.state {
	case fileDone, fileCancelled, fileRefused, fileFailed:
		return true
	}
	return false
}

// fileDesk keeps a session's files: those offered to the user, and those under way. It may be used by many goroutines at once.
type fileDesk struct {
	s       *chatSession
	uploads uploadLog
	every   time.Duration     // between two words on progress
	news    func(e fileEntry) // is told of every change; nothing is held meanwhile

	running sync.WaitGroup // transfers

	mu      sync.Mutex // guards what follows
	last    int
	entries []*fileEntry
	under   map[int]*client.Transfer // by number
	changed time.Time                // when anything last moved
	failed  int
}

func newFileDesk(s *chatSession, every time.Duration, news func(e fileEntry)) *fileDesk {
	return &fileDesk{
		s: s, uploads: newUploadLog(s.opts), every: every, news: news, under: make(map[int]*client.Transfer), changed: time.Now(),
	}
}

// event takes the Client's news. It does not wait.
func (d *fileDesk) event(e client.Event) {
	switch e := e.(type) {
	case client.Ready:
		go d.login(!e.Again)
	case client.FileOffered:
		state := fileOffered
		switch {
		case !e.Ready:
			state = fileComing
		case !e.File.Online:
			state = fileWaiting
		}
		if entry, ok := d.offered(e.File, state, false); ok {
			d.news(entry)
		}
	}
}

// login takes up again what the last session left, and asks what waits.
func (d *fileDesk) login(first bool) {
	if first {
		d.resume()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = d.refresh(ctx) // a server without files is no reason to complain; /files says more
}

// refresh asks the server what waits, and tells of what is new. What waited before and does not any more is forgotten; what has come since the question was
// asked may not be in the answer.
func (d *fileDesk) refresh(ctx context.Context) error {
	d.mu.Lock()
	waited := make(map[*fileEntry]bool)
	for _, e := range d.entries {
		waited[e] = e.state == fileWaiting
	}
	d.mu.Unlock()
	files, err := d.s.client.WaitingFiles(ctx)
	if err != nil {
		return fmt.Errorf("ask for files: %w", err)
	}
	there := make(map[string]bool, len(files))
	for _, f := range files {
		there[f.Task] = true
		if entry, ok := d.offered(f, fileWaiting, true); ok {
			d.news(entry)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = slices.DeleteFunc(d.entries, func(e *fileEntry) bool { return waited[e] && e.state == fileWaiting && !there[e.file.Task] })
	return nil
}

// offered notes a file somebody offers; false when nothing is new about it.
func (d *fileDesk) offered(f client.File, state string, listed bool) (fileEntry, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.entries {
		if e.file.Task == f.Task {
			if e.mine || e.state != fileComing || state == fileComing {
				return fileEntry{}, false
			}
			e.file, e.state = f, state
			return *e, true
		}
	}
	e := d.add(fileEntry{file: f, state: state, listed: listed})
	if e == nil {
		return fileEntry{}, false
	}
	return *e, true
}

// add gives a file a number; nil when there are too many. d.mu is held.
func (d *fileDesk) add(e fileEntry) *fileEntry {
	if len(d.entries) >= maxDesk {
		i := slices.IndexFunc(d.entries, func(e *fileEntry) bool { return e.over() })
		if i < 0 {
			return nil
		}
		d.entries = slices.Delete(d.entries, i, i+1)
	}
	d.last++
	e.n, e.name = d.last, client.CleanFileName(e.file.Name)
	d.entries = append(d.entries, &e)
	return &e
}

// list returns the files that something can be done with, or is being done.
func (d *fileDesk) list() []fileEntry {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []fileEntry
	for _, e := range d.entries {
		if !e.over() {
			out = append(out, *e)
		}
	}
	return out
}

// find returns the file of a number.
func (d *fileDesk) find(n int) (*fileEntry, error) {
	i := slices.IndexFunc(d.entries, func(e *fileEntry) bool { return e.n == n })
	if i < 0 {
		return nil, fmt.Errorf("there is no file %d", n)
	}
	return d.entries[i], nil
}

// send offers a file to a user and begins to send it.
func (d *fileDesk) send(ctx context.Context, to client.Peer, path string, online bool) (fileEntry, error) {
	if to.Group {
		return fileEntry{}, errors.New("files go to single users, not to groups")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return fileEntry{}, err
	}
	src, info, err := openUpload(path)
	if err != nil {
		return fileEntry{}, err
	}
	f, err := d.s.client.OfferFile(ctx, to.ID, client.CleanFileName(filepath.Base(path)), info.Size(), online)
	if err != nil {
		return fileEntry{}, errors.Join(err, src.Close())
	}
	if !f.Online {
		err = d.uploads.keep(f, path, info) // without, it does not survive the end of this process, no more
	}
	entry, startErr := d.startSending(f, path, src)
	return entry, errors.Join(startErr, err)
}

// openUpload opens a file to be sent.
func openUpload(path string) (*os.File, os.FileInfo, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, nil, err
	} else if !info.Mode().IsRegular() { // looked at before, too: opening a pipe waits
		return nil, nil, fmt.Errorf("%s is no file", path)
	}
	src, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := src.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, src.Close())
	}
	return src, info, nil
}

// startSending begins a transfer, which closes src, and tells of it.
func (d *fileDesk) startSending(f client.File, path string, src *os.File) (fileEntry, error) {
	t, err := d.s.client.SendFile(f, src, client.FileOptions{})
	if err != nil {
		return fileEntry{}, errors.Join(err, src.Close())
	}
	d.mu.Lock()
	e := d.add(fileEntry{file: f, mine: true, state: fileSending, path: path})
	if e == nil {
		d.mu.Unlock()
		t.Cancel()
		return fileEntry{}, errors.Join(errors.New("too many files at once"), src.Close())
	}
	snapshot := d.begun(e, t)
	d.mu.Unlock()
	d.news(snapshot)
	d.running.Go(func() {
		d.watch(e, t)
		_ = src.Close() // it was only read
	})
	return snapshot, nil
}

// begun notes that a transfer has begun; d.mu is held.
func (d *fileDesk) begun(e *fileEntry, t *client.Transfer) fileEntry {
	e.moved, e.rate, e.err = t.Moved(), 0, nil
	d.under[e.n] = t
	d.changed = time.Now()
	return *e
}

// get begins to fetch a file, and tells of it.
func (d *fileDesk) get(n int) (fileEntry, error) {
	e, t, snapshot, err := d.startFetching(n)
	if err != nil {
		return fileEntry{}, err
	}
	d.news(snapshot)
	d.running.Go(func() { d.watch(e, t) })
	return snapshot, nil
}

func (d *fileDesk) startFetching(n int) (*fileEntry, *client.Transfer, fileEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := d.find(n)
	switch {
	case err != nil:
		return nil, nil, fileEntry{}, err
	case e.state == fileComing:
		return nil, nil, fileEntry{}, errors.New("its sender is still bringing it to the server")
	case e.mine || d.under[n] != nil || e.state == fileDone || e.over() && e.file.Online:
		return nil, nil, fileEntry{}, fmt.Errorf("file %d: %s", n, e.state)
	}
	if err := os.MkdirAll(d.s.opts.downloads, 0o777); err != nil {
		return nil, nil, fileEntry{}, err
	}
	t, err := d.s.client.FetchFile(e.file, d.s.opts.downloads, client.FileOptions{})
	if err != nil {
		return nil, nil, fileEntry{}, err
	}
	e.state = fileFetching
	return e, t, d.begun(e, t), nil
}

// refuse tells that the user does not want a file.
func (d *fileDesk) refuse(ctx context.Context, n int) (fileEntry, error) {
	d.mu.Lock()
	e, err := d.find(n)
	if err == nil && (e.state != fileOffered && e.state != fileWaiting) {
		err = fmt.Errorf("file %d: %s", n, e.state)
	}
	if err != nil {
		d.mu.Unlock()
		return fileEntry{}, err
	}
	f := e.file
	d.mu.Unlock()
	if err := d.s.client.RefuseFile(ctx, f); err != nil {
		return fileEntry{}, err
	}
	d.mu.Lock()
	e.state = fileRefused
	snapshot := *e
	d.mu.Unlock()
	d.news(snapshot)
	return snapshot, nil
}

// cancel ends a transfer.
func (d *fileDesk) cancel(n int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.under[n]
	if t == nil {
		return fmt.Errorf("file %d is not under way", n)
	}
	t.Cancel()
	return nil
}

// watch tells of a transfer until it has ended.
func (d *fileDesk) watch(e *fileEntry, t *client.Transfer) {
	p := pace{since: time.Now()}
	tick := time.NewTicker(d.every)
	defer tick.Stop()
	for {
		ended := false
		select {
		case <-t.Done():
			ended = true
		case <-tick.C:
		}
		d.mu.Lock()
		moved := t.Moved()
		quiet := moved == e.moved && !ended
		if !quiet {
			d.changed = time.Now()
		}
		e.moved = moved
		e.rate = p.rate(time.Now(), t.Carried())
		if ended {
			d.ended(e, t)
		}
		snapshot := *e
		d.mu.Unlock()
		if !quiet {
			d.news(snapshot)
		}
		if ended {
			return
		}
	}
}

// pace is how fast a transfer is. The time until its first bytes, in which somebody has yet to take it, does not count.
type pace struct{ since time.Time }

// rate returns how many bytes a second that is, 0 before it is known, when so many are over.
func (p *pace) rate(now time.Time, carried int64) float64 {
	past := now.Sub(p.since).Seconds()
	switch {
	case carried == 0:
		p.since = now
		return 0
	case past <= 0:
		return 0
	}
	return float64(carried) / past
}

// ended notes how a transfer ended; d.mu is held.
func (d *fileDesk) ended(e *fileEntry, t *client.Transfer) {
	delete(d.under, e.n)
	err := t.Err()
	switch {
	case err == nil:
		e.state = fileDone
		if !e.mine {
			e.path = t.Path()
		}
	case errors.Is(err, client.ErrFileCancelled) && !e.mine && !e.file.Online:
		e.state = fileWaiting // it still is with the server, and what was fetched still here
	case errors.Is(err, client.ErrFileCancelled):
		e.state = fileCancelled
	case errors.Is(err, client.ErrFileRefused):
		e.state = fileRefused
	case im.KindOf(err) == im.Closed && !e.file.Online:
		e.state = filePaused
	default:
		e.state, e.err = fileFailed, err
		d.failed++
	}
	if e.mine && !e.file.Online && e.state != filePaused {
		d.uploads.forget(e.file)
	}
}

// resume goes on with the uploads that earlier sessions did not finish.
func (d *fileDesk) resume() {
	for _, r := range d.uploads.load() {
		src, info, err := openUpload(r.Path)
		if err == nil && !r.same(info) {
			err = errors.Join(errors.New("the file has changed since"), src.Close())
		}
		if err == nil {
			_, err = d.startSending(r.file(d.s.client.UserID()), r.Path, src)
		}
		if err != nil {
			d.uploads.forget(client.File{Task: r.Task})
			d.news(fileEntry{file: r.file(d.s.client.UserID()), name: client.CleanFileName(r.Name), mine: true, path: r.Path, state: fileFailed, err: err})
		}
	}
}

// busy is how many transfers run.
func (d *fileDesk) busy() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.under)
}

// failures is how many transfers have failed.
func (d *fileDesk) failures() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// wait waits until no transfer runs, as long as they move: when none has for so long as patience, the wait is over.
func (d *fileDesk) wait(ctx context.Context, patience time.Duration) {
	idle := make(chan struct{})
	go func() { d.running.Wait(); close(idle) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-idle:
			return
		case <-ctx.Done():
			return
		case <-d.s.client.Done():
			return
		case <-tick.C:
			d.mu.Lock()
			quiet := time.Since(d.changed) > patience
			d.mu.Unlock()
			if quiet {
				return
			}
		}
	}
}

// downloadFolder is where files go when nobody says.
func downloadFolder() string {
	if home, err := os.UserHomeDir(); err == nil {
		dir := filepath.Join(home, "Downloads")
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
	}
	return "."
}

// typedPath is the path somebody typed, or dragged into the terminal: as it is, between quotation marks, with backslashes, or as a file URL.
func typedPath(arg string) string {
	arg = strings.TrimSpace(arg)
	if _, err := os.Lstat(arg); err == nil {
		return arg
	}
	if u, err := url.Parse(arg); err == nil && u.Scheme == "file" && u.Path != "" {
		return u.Path
	}
	if n := len(arg); n >= 2 && (arg[0] == '\'' || arg[0] == '"') && arg[n-1] == arg[0] {
		arg = strings.ReplaceAll(arg[1:n-1], `'\''`, "'")
	} else if filepath.Separator == '/' {
		arg = unescape(arg)
	}
	if rest, ok := strings.CutPrefix(arg, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	return arg
}

// unescape takes backslashes away, and what they protect stays.
func unescape(s string) string {
	var b strings.Builder
	protected := false
	for _, r := range s {
		if r == '\\' && !protected {
			protected = true
			continue
		}
		protected = false
		b.WriteRune(r)
	}
	return b.String()
}
