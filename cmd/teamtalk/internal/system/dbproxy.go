package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"teamtalk/core/blob"
	"teamtalk/core/engine"
	"teamtalk/core/im"
	"teamtalk/core/sound"
	"teamtalk/handlers/dbproxy"
	"teamtalk/pool"
)

// soundRoom is how much of the disk the folder of sounds leaves to others, in bytes: beyond it audio messages are refused, while texts still find
// their place in the store.
const soundRoom = 64 << 20

// openSounds opens where the sound of audio messages is kept: the small file server that is set, else that of this process, else a folder in data_dir. What
// lies in that folder from other times is found also by the first two.
func (s *system) openSounds() (sound.Store, error) {
	dir := filepath.Join(s.cfg.DataDir, "audio")
	keep, err := s.soundServer()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(dir); keep != nil && errors.Is(err, fs.ErrNotExist) {
		return keep, nil
	}
	folder, err := blob.OpenFolder(dir, soundRoom)
	if err != nil {
		return nil, fmt.Errorf("folder for audio messages: %w (setting data_dir)", err)
	}
	s.dbEnd.sounds = append(s.dbEnd.sounds, folder)
	here := sound.NewBlobs(folder, im.MaxAudio)
	if keep != nil {
		return sound.NewMoved(keep, here), nil
	}
	if !s.cfg.AllInOne() {
		s.log.Warn("sounds of audio messages are kept in a folder of this process; other dbproxy servers do not see it (setting dbproxy.msfs)",
			"role", RoleDBProxy, "dir", dir)
	}
	return here, nil
}

// soundServer is the small file server that keeps sounds, nil when there is none.
func (s *system) soundServer() (sound.Store, error) {
	at := s.cfg.DBProxy.MSFS
	if at == "" && s.msfs != nil {
		at = s.msfs.url // none without a port and a URL: then nobody could fetch what is told
	}
	if at == "" {
		return nil, nil
	}
	server, err := sound.NewHTTP(sound.HTTPOptions{URL: at, MaxSize: im.MaxAudio, Timeout: s.cfg.Link.CallTimeout / 4})
	if err != nil {
		return nil, fmt.Errorf("%w (setting dbproxy.msfs)", err)
	}
	s.dbEnd.sounds = append(s.dbEnd.sounds, server)
	if s.cfg.DBProxy.MSFS != "" {
		return server, nil
	}
	return sound.NewHere(sound.HereOptions{Server: s.msfs.server, URL: at, Elsewhere: server, MaxSize: im.MaxAudio}), nil
}

// dbProxyEnd is what db_proxy needs until its last request is answered.
type dbProxyEnd struct {
	sync   *background // Server.RunSync
	expiry *background // Server.RunFileExpiry
	sounds []io.Closer
}

// stop frees it. It may be called when little, or nothing, was started.
func (e dbProxyEnd) stop() error {
	if e.sync != nil {
		e.sync.stop()
	}
	if e.expiry != nil {
		e.expiry.stop()
	}
	var errs []error
	for _, c := range e.sounds {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// background is something that runs until it is stopped.
type background struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

func inBackground(run func(ctx context.Context)) *background {
	ctx, cancel := context.WithCancel(context.Background())
	b := &background{cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(b.ended)
		run(ctx)
	}()
	return b
}

// stop ends it, and returns when it has ended.
func (b *background) stop() {
	b.cancel()
	<-b.ended
}

func (s *system) startDBProxy(ctx context.Context) error {
	cfg := s.cfg
	sizes := pool.SizesFor(cfg.Workers)
	store, err := OpenStore(ctx, cfg, StoreOptions{Log: s.log, Registerer: s.reg})
	if err != nil {
		return err
	}
	s.store = store
	s.ready.Add("store", store.Ping)
	s.pool = pool.New(pool.Options{Workers: sizes.Workers, Queue: cfg.DBProxy.Queue, Logger: s.log, Registerer: s.reg})
	sounds, err := s.openSounds()
	if err != nil {
		return err
	}
	text, err := im.NewTextCipher(string(cfg.Keys.Text))
	if err != nil {
		return fmt.Errorf("%w (setting keys.text_key)", err)
	}
	attempts := cfg.DBProxy.LoginLockAttempts
	if attempts == 0 {
		attempts = -1
	}
	s.db = dbproxy.New(dbproxy.Options{
		Store: store, Tasks: s.pool, Sounds: sounds, Text: text, HistoryLimit: cfg.DBProxy.HistoryLimit,
		LockAttempts: attempts, LockWindow: cfg.DBProxy.LoginLockWindow,
		Timeout:     cfg.Link.CallTimeout * 4 / 5, // over before message servers give up
		LinkTimeout: cfg.Link.Timeout, LinkHeartbeat: cfg.Link.Heartbeat, Log: s.log, Registerer: s.reg,
	})
	batches := pool.BatchOptions[*dbproxy.Pending]{Shards: cfg.DBProxy.MessageShards, Failed: s.db.FailBatch}
	if batches.Shards == 0 {
		// Where database and servers share two cores, two batches at once wait for each other less than four, and are larger: see bench/PERFORMANCE.md.
		batches.Shards = min(s.pool.BatchWorkers(), 4, max(2, runtime.GOMAXPROCS(0)))
	}
	if cfg.Store == "embedded" {
		if cfg.DBProxy.MessageShards == 0 {
			batches.Shards = 1 // SQLite has one writer: two batches at once would only wait for each other
		}
		// Each conversation has pages of its own, which a batch writes once: with hundreds of conversations at work it is large batches that catch up.
		batches.MaxItems, batches.MaxBytes = 1024, 1<<20
	}
	s.db.SetMessages(pool.NewBatcher(s.pool, batches, (*dbproxy.Pending).Size, s.db.AppendBatch))
	s.dbEnd.sync = inBackground(func(ctx context.Context) { s.db.RunSync(ctx, cfg.DBProxy.SessionSync) })
	if keep := cfg.DBProxy.FileExpiry; keep > 0 {
		s.dbEnd.expiry = inBackground(func(ctx context.Context) { s.db.RunFileExpiry(ctx, keep) })
	}
	return s.listen(&port{name: "dbproxy"}, "dbproxy.listen", cfg.DBProxy.Addr(cfg.AllInOne()), engine.Options{Handler: s.db})
}
