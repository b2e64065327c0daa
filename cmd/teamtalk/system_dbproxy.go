package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"teamtalk/core/blob"
	"teamtalk/core/config"
	"teamtalk/core/files"
	"teamtalk/core/im"
)

// soundRoom is how much of the disk the folder of sounds leaves to others, in bytes: beyond it audio messages are refused, while texts still find
// their place in the store.
const soundRoom = 64 << 20

// openSounds opens where the sound of audio messages is kept: the small file server that is set, else a folder beside the embedded store.
func openSounds(cfg *config.Config) (files.Files, io.Closer, error) {
	if cfg.DBProxy.MSFS != "" {
		server, err := files.NewHTTP(files.HTTPOptions{URL: cfg.DBProxy.MSFS, MaxSize: im.MaxAudio, Timeout: cfg.Link.CallTimeout / 4})
		if err != nil {
			return nil, nil, fmt.Errorf("%w (setting dbproxy.msfs)", err)
		}
		return server, server, nil
	}
	folder, err := blob.OpenFolder(filepath.Join(cfg.DataDir, "audio"), soundRoom)
	if err != nil {
		return nil, nil, fmt.Errorf("folder for audio messages: %w (setting data_dir)", err)
	}
	return files.NewBlobs(folder, im.MaxAudio), folder, nil
}

// dbProxyEnd is what db_proxy needs until its last request is answered.
type dbProxyEnd struct {
	sync   *background // Server.RunSync
	expiry *background // Server.RunFileExpiry
	sounds io.Closer
}

// stop frees it. It may be called when little, or nothing, was started.
func (e dbProxyEnd) stop() error {
	if e.sync != nil {
		e.sync.stop()
	}
	if e.expiry != nil {
		e.expiry.stop()
	}
	if e.sounds != nil {
		return e.sounds.Close()
	}
	return nil
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
