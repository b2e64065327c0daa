package media

import (
	"context"
	"fmt"
	"time"

	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/backoff"
	"teamtalk/core/im"
	"teamtalk/core/sound"
	"teamtalk/handlers/msfs"
)

// The avatars of users and groups must not expire: clients keep them for long, so an avatar may
// be needed that no client has downloaded for a year. The small file server does not know which
// files are avatars. A dbproxy server knows, and tells it by looking at each file.

const (
	// avatarPage is the number of users or groups that are read from the store at once.
	avatarPage = 500
	// avatarPause is the shortest time for an avatar.
	avatarPause = 10 * time.Millisecond
	// avatarDelay is the time from the start to the first round: a process that starts has
	// more important work.
	avatarDelay = time.Minute
	// avatarFailures is how many looks in a row may fail before a round ends: the small file
	// server is not there.
	avatarFailures = 20
)

// KeepAvatars starts to look at the avatars of a store, when files expire.
func (f *Files) KeepAvatars(store im.Store) error {
	after := f.Config.MSFS.ExpireAfter
	if after == 0 {
		return nil
	}
	use, err := f.use()
	if err != nil || use == nil {
		return err
	}
	f.Stops.Go(stops.EndUpkeep, "use of avatars", func(ctx context.Context) {
		wait := avatarDelay
		for backoff.Sleep(ctx, wait) == nil {
			wait = min(7*24*time.Hour, after/4)
			n, err := useAvatars(ctx, store, use)
			if err != nil && ctx.Err() == nil {
				f.Log.Error("avatars are not kept from expiring (setting msfs.expire_after)",
					"role", role, "avatars", n, "err", err)
				wait = min(wait, time.Hour)
			}
		}
	})
	return nil
}

// use returns a function that lets a file of the small file server count as read; nil
// without a server.
func (f *Files) use() (func(ctx context.Context, name string) error, error) {
	at := f.Config.DBProxy.MSFS
	if f.follows() {
		return f.follow(nil).use, nil
	}
	if at == "" && f.Here == nil {
		f.Log.Warn("avatars expire like other files: no small file server is named (setting "+
			"dbproxy.msfs)", "role", role)
		return nil, nil
	}
	if at == "" {
		return func(ctx context.Context, name string) error {
			f.Here.Use(ctx, name)
			return nil
		}, nil
	}
	server, err := sound.NewHTTP(sound.HTTPOptions{URL: at, MaxSize: im.MaxAudio,
		Timeout: f.Config.Link.CallTimeout})
	if err != nil {
		return nil, fmt.Errorf("%w (setting dbproxy.msfs)", err)
	}
	f.Stops.Push(stops.EndUpkeep, "server of avatars", stops.Closing(server.Close))
	return server.Use, nil
}

// avatarRound is a look at all avatars.
type avatarRound struct {
	use   func(context.Context, string) error
	n     int   // avatars
	inRow int   // the last looks, which failed
	err   error // the first failure
}

// look lets an avatar count as read. An avatar that fails is left out: the server may not be
// able to read that file, and the avatars after it must not expire for it.
func (r *avatarRound) look(ctx context.Context, url string) error {
	name := msfs.FileInURL(url)
	if name == "" {
		return nil
	}
	err := r.use(ctx, name)
	if err != nil && im.KindOf(err) != im.NotFound {
		if r.err == nil {
			r.err = fmt.Errorf("%s: %w", name, err)
		}
		if r.inRow++; r.inRow == avatarFailures {
			return r.err
		}
		return backoff.Sleep(ctx, avatarPause)
	}
	r.inRow = 0
	r.n++
	return backoff.Sleep(ctx, avatarPause)
}

// useAvatars lets the avatars of all users and groups count as read, and returns their number.
// Avatars elsewhere are left out, and those that do not exist. The error is the first one; it
// ends the round only when many avatars in a row fail.
func useAvatars(ctx context.Context, store im.Store,
	use func(context.Context, string) error) (n int, err error) {
	r := avatarRound{use: use}
	if err := r.lookAll(ctx, store); err != nil {
		return r.n, err
	}
	return r.n, r.err
}

// lookAll looks at the avatars of all users and groups.
func (r *avatarRound) lookAll(ctx context.Context, store im.Store) error {
	for after, end := uint32(0), false; !end; {
		users, err := store.ListUsers(ctx, after, avatarPage)
		if err != nil {
			return err
		}
		for i := range users {
			after = users[i].ID
			if err := r.look(ctx, users[i].Avatar); err != nil {
				return err
			}
		}
		end = len(users) < avatarPage
	}
	for after, end := uint32(0), false; !end; {
		groups, err := store.ListGroups(ctx, after, avatarPage)
		if err != nil {
			return err
		}
		for i := range groups {
			after = groups[i].ID
			if err := r.look(ctx, groups[i].Avatar); err != nil {
				return err
			}
		}
		end = len(groups) < avatarPage
	}
	return nil
}
