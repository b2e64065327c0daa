package chat

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
	FileComing    = "coming"    // its sender is bringing it to the server
	FileOffered   = "offered"   // its sender waits for it to be fetched
	FileWaiting   = "waiting"   // the server keeps it
	FileSending   = "sending"   //
	FileFetching  = "fetching"  //
	FileDone      = "done"      // sent: with the server, or with the receiver; fetched: on this disk
	FileCancelled = "cancelled" // by either side
	fileRefused   = "refused"   // by the receiver
	FileFailed    = "failed"    //
	FilePaused    = "paused"    // goes on with the next login
)

// maxDesk is how many files a session remembers; the oldest that nothing can be done with are forgotten first.
const maxDesk = 2000

// FileEntry is a file of the session. The desk hands out copies.
type FileEntry struct {
	N      int // by which people and programs name it, from 1
	File   client.File
	Name   string // safe to show and to use
	Mine   bool   // sent, not received
	State  string
	Moved  int64
	Rate   float64 // bytes a second, since the first of them in this session
	Path   string  // of what is sent, or was fetched
	Err    error
	Listed bool // the server told of it when asked, nobody did when it came
}

// over reports whether nothing will become of it any more.
func (e FileEntry) over() bool {
	switch e.State {
	case FileDone, FileCancelled, fileRefused, FileFailed:
		return true
	}
	return false
}

// FileDesk keeps a session's files: those offered to the user, and those under way. It may be used by many goroutines at once.
type FileDesk struct {
	s       *Session
	uploads uploadLog
	every   time.Duration     // between two words on progress
	news    func(e FileEntry) // is told of every change; nothing is held meanwhile

	Running sync.WaitGroup // transfers

	mu      sync.Mutex // guards what follows
	last    int
	entries []*FileEntry
	under   map[int]*client.Transfer // by number
	changed time.Time                // when anything last moved
	failed  int
}

func newFileDesk(s *Session, every time.Duration, news func(e FileEntry)) *FileDesk {
	return &FileDesk{
		s: s, uploads: newUploadLog(s.Opts), every: every, news: news, under: make(map[int]*client.Transfer), changed: time.Now(),
	}
}

// event takes the Client's news. It does not wait.
func (d *FileDesk) event(e client.Event) {
	switch e := e.(type) {
	case client.Ready:
		go d.login(!e.Again)
	case client.FileOffered:
		state := FileOffered
		switch {
		case !e.Ready:
			state = FileComing
		case !e.File.Online:
			state = FileWaiting
		}
		if entry, ok := d.offered(e.File, state, false); ok {
			d.news(entry)
		}
	}
}

// login takes up again what the last session left, and asks what waits.
func (d *FileDesk) login(first bool) {
	if first {
		d.resume()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = d.Refresh(ctx) // a server without files is no reason to complain; /files says more
}

// Refresh asks the server what waits, and tells of what is new. What waited before and does not any more is forgotten; what has come since the question was
// asked may not be in the answer.
func (d *FileDesk) Refresh(ctx context.Context) error {
	d.mu.Lock()
	waited := make(map[*FileEntry]bool)
	for _, e := range d.entries {
		waited[e] = e.State == FileWaiting
	}
	d.mu.Unlock()
	files, err := d.s.Client.WaitingFiles(ctx)
	if err != nil {
		return fmt.Errorf("ask for files: %w", err)
	}
	there := make(map[string]bool, len(files))
	for _, f := range files {
		there[f.Task] = true
		if entry, ok := d.offered(f, FileWaiting, true); ok {
			d.news(entry)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = slices.DeleteFunc(d.entries, func(e *FileEntry) bool { return waited[e] && e.State == FileWaiting && !there[e.File.Task] })
	return nil
}

// offered notes a file somebody offers; false when nothing is new about it.
func (d *FileDesk) offered(f client.File, state string, listed bool) (FileEntry, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.entries {
		if e.File.Task == f.Task {
			if e.Mine || e.State != FileComing || state == FileComing {
				return FileEntry{}, false
			}
			e.File, e.State = f, state
			return *e, true
		}
	}
	e := d.add(FileEntry{File: f, State: state, Listed: listed})
	if e == nil {
		return FileEntry{}, false
	}
	return *e, true
}

// add gives a file a number; nil when there are too many. d.mu is held.
func (d *FileDesk) add(e FileEntry) *FileEntry {
	if len(d.entries) >= maxDesk {
		i := slices.IndexFunc(d.entries, func(e *FileEntry) bool { return e.over() })
		if i < 0 {
			return nil
		}
		d.entries = slices.Delete(d.entries, i, i+1)
	}
	d.last++
	e.N, e.Name = d.last, client.CleanFileName(e.File.Name)
	d.entries = append(d.entries, &e)
	return &e
}

// List returns the files that something can be done with, or is being done.
func (d *FileDesk) List() []FileEntry {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []FileEntry
	for _, e := range d.entries {
		if !e.over() {
			out = append(out, *e)
		}
	}
	return out
}

// find returns the file of a number.
func (d *FileDesk) find(n int) (*FileEntry, error) {
	i := slices.IndexFunc(d.entries, func(e *FileEntry) bool { return e.N == n })
	if i < 0 {
		return nil, fmt.Errorf("there is no file %d", n)
	}
	return d.entries[i], nil
}

// Send offers a file to a user and begins to send it.
func (d *FileDesk) Send(ctx context.Context, to client.Peer, path string, online bool) (FileEntry, error) {
	if to.Group {
		return FileEntry{}, errors.New("files go to single users, not to groups")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return FileEntry{}, err
	}
	src, info, err := openUpload(path)
	if err != nil {
		return FileEntry{}, err
	}
	f, err := d.s.Client.OfferFile(ctx, to.ID, client.CleanFileName(filepath.Base(path)), info.Size(), online)
	if err != nil {
		return FileEntry{}, errors.Join(err, src.Close())
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
func (d *FileDesk) startSending(f client.File, path string, src *os.File) (FileEntry, error) {
	t, err := d.s.Client.SendFile(f, src, client.FileOptions{})
	if err != nil {
		return FileEntry{}, errors.Join(err, src.Close())
	}
	d.mu.Lock()
	e := d.add(FileEntry{File: f, Mine: true, State: FileSending, Path: path})
	if e == nil {
		d.mu.Unlock()
		t.Cancel()
		return FileEntry{}, errors.Join(errors.New("too many files at once"), src.Close())
	}
	snapshot := d.begun(e, t)
	d.mu.Unlock()
	d.news(snapshot)
	d.Running.Go(func() {
		d.watch(e, t)
		_ = src.Close() // it was only read
	})
	return snapshot, nil
}

// begun notes that a transfer has begun; d.mu is held.
func (d *FileDesk) begun(e *FileEntry, t *client.Transfer) FileEntry {
	e.Moved, e.Rate, e.Err = t.Moved(), 0, nil
	d.under[e.N] = t
	d.changed = time.Now()
	return *e
}

// Get begins to fetch a file, and tells of it.
func (d *FileDesk) Get(n int) (FileEntry, error) {
	e, t, snapshot, err := d.startFetching(n)
	if err != nil {
		return FileEntry{}, err
	}
	d.news(snapshot)
	d.Running.Go(func() { d.watch(e, t) })
	return snapshot, nil
}

func (d *FileDesk) startFetching(n int) (*FileEntry, *client.Transfer, FileEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := d.find(n)
	switch {
	case err != nil:
		return nil, nil, FileEntry{}, err
	case e.State == FileComing:
		return nil, nil, FileEntry{}, errors.New("its sender is still bringing it to the server")
	case e.Mine || d.under[n] != nil || e.State == FileDone || e.over() && e.File.Online:
		return nil, nil, FileEntry{}, fmt.Errorf("file %d: %s", n, e.State)
	}
	if err := os.MkdirAll(d.s.Opts.Downloads, 0o777); err != nil {
		return nil, nil, FileEntry{}, err
	}
	t, err := d.s.Client.FetchFile(e.File, d.s.Opts.Downloads, client.FileOptions{})
	if err != nil {
		return nil, nil, FileEntry{}, err
	}
	e.State = FileFetching
	return e, t, d.begun(e, t), nil
}

// Refuse tells that the user does not want a file.
func (d *FileDesk) Refuse(ctx context.Context, n int) (FileEntry, error) {
	d.mu.Lock()
	e, err := d.find(n)
	if err == nil && (e.State != FileOffered && e.State != FileWaiting) {
		err = fmt.Errorf("file %d: %s", n, e.State)
	}
	if err != nil {
		d.mu.Unlock()
		return FileEntry{}, err
	}
	f := e.File
	d.mu.Unlock()
	if err := d.s.Client.RefuseFile(ctx, f); err != nil {
		return FileEntry{}, err
	}
	d.mu.Lock()
	e.State = fileRefused
	snapshot := *e
	d.mu.Unlock()
	d.news(snapshot)
	return snapshot, nil
}

// Cancel ends a transfer.
func (d *FileDesk) Cancel(n int) error {
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
func (d *FileDesk) watch(e *FileEntry, t *client.Transfer) {
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
		quiet := moved == e.Moved && !ended
		if !quiet {
			d.changed = time.Now()
		}
		e.Moved = moved
		e.Rate = p.rate(time.Now(), t.Carried())
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
func (d *FileDesk) ended(e *FileEntry, t *client.Transfer) {
	delete(d.under, e.N)
	err := t.Err()
	switch {
	case err == nil:
		e.State = FileDone
		if !e.Mine {
			e.Path = t.Path()
		}
	case errors.Is(err, client.ErrFileCancelled) && !e.Mine && !e.File.Online:
		e.State = FileWaiting // it still is with the server, and what was fetched still here
	case errors.Is(err, client.ErrFileCancelled):
		e.State = FileCancelled
	case errors.Is(err, client.ErrFileRefused):
		e.State = fileRefused
	case im.KindOf(err) == im.Closed && !e.File.Online:
		e.State = FilePaused
	default:
		e.State, e.Err = FileFailed, err
		d.failed++
	}
	if e.Mine && !e.File.Online && e.State != FilePaused {
		d.uploads.forget(e.File)
	}
}

// resume goes on with the uploads that earlier sessions did not finish.
func (d *FileDesk) resume() {
	for _, r := range d.uploads.load() {
		src, info, err := openUpload(r.Path)
		if err == nil && !r.same(info) {
			err = errors.Join(errors.New("the file has changed since"), src.Close())
		}
		if err == nil {
			_, err = d.startSending(r.file(d.s.Client.UserID()), r.Path, src)
		}
		if err != nil {
			d.uploads.forget(client.File{Task: r.Task})
			d.news(FileEntry{File: r.file(d.s.Client.UserID()), Name: client.CleanFileName(r.Name), Mine: true, Path: r.Path, State: FileFailed, Err: err})
		}
	}
}

// Busy is how many transfers run.
func (d *FileDesk) Busy() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.under)
}

// Failures is how many transfers have failed.
func (d *FileDesk) Failures() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// Wait waits until no transfer runs, as long as they move: when none has for so long as patience, the wait is over.
func (d *FileDesk) Wait(ctx context.Context, patience time.Duration) {
	idle := make(chan struct{})
	go func() { d.Running.Wait(); close(idle) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-idle:
			return
		case <-ctx.Done():
			return
		case <-d.s.Client.Done():
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

// DownloadFolder is where files go when nobody says.
func DownloadFolder() string {
	if home, err := os.UserHomeDir(); err == nil {
		dir := filepath.Join(home, "Downloads")
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
	}
	return "."
}

// TypedPath is the path somebody typed, or dragged into the terminal: as it is, between quotation marks, with backslashes, or as a file URL.
func TypedPath(arg string) string {
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

// FileSize is a number of bytes for people. It holds no lower-case m: see screen.mark.
func FileSize(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d bytes", n)
	case n < 999_950:
		return fmt.Sprintf("%.1f KB", float64(n)/1e3)
	case n < 999_950_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// fileText names a file and its size.
func (e FileEntry) Text() string { return e.Name + " (" + FileSize(e.File.Size) + ")" }

// Other is the peer whom a file goes to or comes from.
func (e FileEntry) Other() client.Peer {
	if e.Mine {
		return client.Peer{ID: e.File.To}
	}
	return client.Peer{ID: e.File.From}
}
