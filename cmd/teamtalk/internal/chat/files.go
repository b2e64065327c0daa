package chat

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"teamtalk/core/client"
	"teamtalk/core/client/transfer"
	"teamtalk/core/im"
)

// maxDesk is how many files a session remembers. Beyond it the oldest file whose transfer
// is over is forgotten.
const maxDesk = 2000

// FileDesk keeps the files of a session: those offered to the user, and those being
// transferred. Any goroutine may use it.
type FileDesk struct {
	client  *client.Client
	uploads uploadLog
	folder  string            // of fetched files
	every   time.Duration     // between two reports of a transfer's progress
	news    func(e FileEntry) // receives every change; called without a lock

	running sync.WaitGroup // transfers

	mu      sync.Mutex // guards what follows
	last    int
	entries []*FileEntry
	under   map[int]*transfer.Transfer // running transfers, by number
	changed time.Time                  // of the last moved bytes
	failed  int
}

// newFileDesk returns an empty desk. news receives every change of a file.
func newFileDesk(c *client.Client, o Options, news func(e FileEntry)) *FileDesk {
	return &FileDesk{
		client: c, uploads: newUploadLog(o), folder: o.Downloads, every: o.Progress, news: news,
		under: make(map[int]*transfer.Transfer), changed: time.Now(),
	}
}

// event takes an event of the client. It does not block.
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

// login continues the uploads of earlier sessions, if it is the first login of this one,
// and asks for the waiting files.
func (d *FileDesk) login(first bool) {
	if first {
		d.resume()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = d.Refresh(ctx) // a server without file servers is no failure; /files shows the error
}

// Refresh asks the server for the waiting files and reports the new ones. It forgets
// files that waited before the request and are not in the answer. A file that arrived
// during the request may be missing in the answer, and stays.
func (d *FileDesk) Refresh(ctx context.Context) error {
	d.mu.Lock()
	waited := make(map[*FileEntry]bool)
	for _, e := range d.entries {
		waited[e] = e.State == FileWaiting
	}
	d.mu.Unlock()
	files, err := d.client.Files.Waiting(ctx)
	if err != nil {
		return fmt.Errorf("ask for files: %w", err)
	}
	listed := make(map[string]bool, len(files))
	for _, f := range files {
		listed[f.Task] = true
		if entry, ok := d.offered(f, FileWaiting, true); ok {
			d.news(entry)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = slices.DeleteFunc(d.entries, func(e *FileEntry) bool {
		return waited[e] && e.State == FileWaiting && !listed[e.File.Task]
	})
	return nil
}

// offered notes a file that another user offers; false when its entry does not change.
func (d *FileDesk) offered(f transfer.File, state string, listed bool) (FileEntry, bool) {
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

// add gives a file a number; nil when there are too many unfinished files. d.mu is held.
func (d *FileDesk) add(e FileEntry) *FileEntry {
	if len(d.entries) >= maxDesk {
		i := slices.IndexFunc(d.entries, func(e *FileEntry) bool { return e.over() })
		if i < 0 {
			return nil
		}
		d.entries = slices.Delete(d.entries, i, i+1)
	}
	d.last++
	e.N, e.Name = d.last, transfer.CleanName(e.File.Name)
	d.entries = append(d.entries, &e)
	return &e
}

// List returns the files whose transfer is not over.
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

// find returns the file with a number. d.mu is held.
func (d *FileDesk) find(n int) (*FileEntry, error) {
	i := slices.IndexFunc(d.entries, func(e *FileEntry) bool { return e.N == n })
	if i < 0 {
		return nil, fmt.Errorf("there is no file %d", n)
	}
	return d.entries[i], nil
}

// Send offers a file to a user and starts the upload. With online, a receiver that is
// online fetches the file directly from the sender; otherwise the server keeps it for the
// receiver.
func (d *FileDesk) Send(ctx context.Context, to client.Peer, path string, online bool) (
	FileEntry, error,
) {
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
	f, err := d.client.Files.Offer(ctx, to.ID, transfer.CleanName(filepath.Base(path)), info.Size(),
		online)
	if err != nil {
		return FileEntry{}, errors.Join(err, src.Close())
	}
	if !f.Online {
		err = d.uploads.keep(f, path, info) // without the record the upload ends with this process
	}
	entry, startErr := d.startSending(f, path, src)
	return entry, errors.Join(startErr, err)
}

// startSending starts an upload and reports it. It closes src in every case.
func (d *FileDesk) startSending(f transfer.File, path string, src *os.File) (FileEntry, error) {
	t, err := d.client.Files.Send(f, src, transfer.Options{})
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
	d.running.Go(func() {
		d.watch(e, t)
		_ = src.Close() // a file that was only read
	})
	return snapshot, nil
}

// begun notes that a transfer has started. d.mu is held.
func (d *FileDesk) begun(e *FileEntry, t *transfer.Transfer) FileEntry {
	e.Moved, e.Rate, e.Err = t.Moved(), 0, nil
	d.under[e.N] = t
	d.changed = time.Now()
	return *e
}

// Get starts to fetch a file, and reports it.
func (d *FileDesk) Get(n int) (FileEntry, error) {
	e, t, snapshot, err := d.startFetching(n)
	if err != nil {
		return FileEntry{}, err
	}
	d.news(snapshot)
	d.running.Go(func() { d.watch(e, t) })
	return snapshot, nil
}

// startFetching starts a download. It returns the entry, the transfer, and a copy of the
// entry.
func (d *FileDesk) startFetching(n int) (*FileEntry, *transfer.Transfer, FileEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := d.find(n)
	switch {
	case err != nil:
		return nil, nil, FileEntry{}, err
	case e.State == FileComing:
		return nil, nil, FileEntry{}, errors.New("the sender is still uploading it to the server")
	case e.Mine || d.under[n] != nil || e.State == FileDone || e.over() && e.File.Online:
		return nil, nil, FileEntry{}, fmt.Errorf("file %d: %s", n, e.State)
	}
	if err := os.MkdirAll(d.folder, 0o777); err != nil {
		return nil, nil, FileEntry{}, err
	}
	t, err := d.client.Files.Fetch(e.File, d.folder, transfer.Options{})
	if err != nil {
		return nil, nil, FileEntry{}, err
	}
	e.State = FileFetching
	return e, t, d.begun(e, t), nil
}

// Refuse tells the server that the user does not want a file.
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
	if err := d.client.Files.Refuse(ctx, f); err != nil {
		return FileEntry{}, err
	}
	d.mu.Lock()
	e.State = fileRefused
	snapshot := *e
	d.mu.Unlock()
	d.news(snapshot)
	return snapshot, nil
}

// Cancel stops a running transfer.
func (d *FileDesk) Cancel(n int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.under[n]
	if t == nil {
		return fmt.Errorf("file %d is not being transferred", n)
	}
	t.Cancel()
	return nil
}

// watch reports the progress of a transfer until it ends.
func (d *FileDesk) watch(e *FileEntry, t *transfer.Transfer) {
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

// ended notes the outcome of a transfer. d.mu is held.
func (d *FileDesk) ended(e *FileEntry, t *transfer.Transfer) {
	delete(d.under, e.N)
	err := t.Err()
	switch {
	case err == nil:
		e.State = FileDone
		if !e.Mine {
			e.Path = t.Path()
		}
	case errors.Is(err, transfer.ErrCancelled) && !e.Mine && !e.File.Online:
		e.State = FileWaiting // the server still keeps it, and this disk the part that was fetched
	case errors.Is(err, transfer.ErrCancelled):
		e.State = FileCancelled
	case errors.Is(err, transfer.ErrRefused):
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

// resume continues the uploads that earlier sessions did not finish.
func (d *FileDesk) resume() {
	for _, r := range d.uploads.load() {
		src, info, err := openUpload(r.Path)
		if err == nil && !r.same(info) {
			err = errors.Join(errors.New("the file has changed since the upload began"),
				src.Close())
		}
		if err == nil {
			_, err = d.startSending(r.file(d.client.UserID()), r.Path, src)
		}
		if err != nil {
			d.uploads.forget(transfer.File{Task: r.Task})
			d.news(FileEntry{
				File: r.file(d.client.UserID()), Name: transfer.CleanName(r.Name), Mine: true,
				Path: r.Path, State: FileFailed, Err: err,
			})
		}
	}
}

// Busy returns the number of running transfers.
func (d *FileDesk) Busy() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.under)
}

// Failures returns the number of failed transfers.
func (d *FileDesk) Failures() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// WaitStopped waits until no transfer runs. Call it after the client is closed, which
// ends them.
func (d *FileDesk) WaitStopped() { d.running.Wait() }

// Wait waits until no transfer runs. It gives up when no byte has moved for patience, and
// when ctx or the session ends.
func (d *FileDesk) Wait(ctx context.Context, patience time.Duration) {
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
		case <-d.client.Done():
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
