package media

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"

	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/im"
	"teamtalk/core/registry"
	"teamtalk/core/sound"
)

// registered is the small file servers in the registry. Sounds are put on the preferred one, see
// registry.FileURLs. Any goroutine.
//
// The last known ones stay known when all are gone, so that audio messages are refused then, and
// no sound is put where other db_proxies do not see it. A process that has never known one keeps
// sounds in a folder: the deployment may have no small file server. While the registry was not
// read once, audio messages are refused.
type registered struct {
	view   *registry.View
	open   func(url string) (*sound.HTTP, error)
	folder sound.Store // for the sounds of a deployment without a small file server
	log    *slog.Logger

	mu      sync.Mutex
	urls    []string // the last ones that were known, the preferred one first
	servers map[string]*sound.HTTP
	told    bool // the log has a line about the folder
}

// follow returns the registered small file servers, and reads them until the process ends.
func (f *Files) follow(folder sound.Store) *registered {
	r := &registered{view: f.View, open: f.openServer, folder: folder, log: f.Log,
		servers: map[string]*sound.HTTP{}}
	f.Stops.Push(stops.EndUpkeep, "registered small file servers", stops.Closing(r.close))
	f.Stops.Go(stops.EndUpkeep, "reading of the small file servers", r.watch)
	return r
}

// watch reads the servers whenever they change, until ctx ends.
func (r *registered) watch(ctx context.Context) {
	for {
		_, changed := r.view.Nodes("msfs")
		r.read()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// read returns the URLs of the servers, the preferred one first, and whether the registry was read.
func (r *registered) read() (urls []string, known bool) {
	updates := r.view.Updates() // before Nodes
	r.mu.Lock()
	defer r.mu.Unlock()
	nodes, _ := r.view.Nodes("msfs")
	if urls := registry.FileURLs(nodes); len(urls) > 0 {
		r.urls = urls
	}
	return r.urls, updates > 0
}

// all returns the servers, the preferred one first; none while none was ever known. The error is of
// kind Unavailable when the registry was not read yet.
func (r *registered) all() ([]*sound.HTTP, error) {
	urls, known := r.read()
	if !known {
		return nil, im.Errorf(im.Unavailable, "the small file servers are not known yet: the "+
			"registry was not read")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	open := map[string]*sound.HTTP{}
	var all []*sound.HTTP
	for _, url := range urls {
		s := r.servers[url]
		if s == nil {
			var err error
			if s, err = r.open(url); err != nil {
				return nil, err
			}
		}
		open[url] = s
		all = append(all, s)
	}
	for url, s := range r.servers {
		if open[url] == nil {
			_ = s.Close() // its idle connections: transfers end by themselves
		}
	}
	r.servers = open
	return all, nil
}

// Put stores a sound on the preferred server, see sound.Store.
func (r *registered) Put(ctx context.Context, name string, data []byte) (string, error) {
	all, err := r.all()
	if err != nil {
		return "", err
	}
	if len(all) > 0 {
		return all[0].Put(ctx, name, data)
	}
	r.mu.Lock()
	first := !r.told
	r.told = true
	r.mu.Unlock()
	if first {
		r.log.Warn("sounds of audio messages are kept in a folder of this process, because no "+
			"small file server is registered; other dbproxy servers do not see it (setting "+
			"dbproxy.msfs)", "role", role)
	}
	return r.folder.Put(ctx, name, data)
}

// Get returns a sound, see sound.Store. Its URL names its server, which may be gone from the
// registry. A name without a server is that of a file in the folder.
func (r *registered) Get(ctx context.Context, url string) ([]byte, error) {
	if !strings.Contains(url, "://") {
		return r.folder.Get(ctx, url)
	}
	all, err := r.all()
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, im.Errorf(im.Unavailable, "no small file server is registered")
	}
	return all[0].Get(ctx, url)
}

// use lets a file count as read. It is on one of the servers.
func (r *registered) use(ctx context.Context, name string) error {
	all, err := r.all()
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return im.Errorf(im.Unavailable, "no small file server is registered")
	}
	var failed error
	for _, s := range all {
		err := s.Use(ctx, name)
		if err == nil {
			return nil
		}
		if failed == nil || im.KindOf(failed) == im.NotFound {
			failed = err // one that does not answer may have the file
		}
	}
	return failed
}

// close closes idle connections.
func (r *registered) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, s := range r.servers {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
