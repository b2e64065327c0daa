package system

import (
	"context"
	"fmt"
	"time"

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
)

// keepAvatars starts to look at the avatars, when files expire.
func keepAvatars(s *system) error {
	after := s.cfg.MSFS.ExpireAfter
	if after == 0 {
		return nil
	}
	use, err := useOfFiles(s)
	if err != nil || use == nil {
		return err
	}
	keep := inBackground(func(ctx context.Context) {
		wait := avatarDelay
		for waits(ctx, wait) == nil {
			wait = min(7*24*time.Hour, after/4)
			n, err := useAvatars(ctx, s.store, use)
			if err != nil && ctx.Err() == nil {
				s.log.Error("avatars are not kept from expiring (setting msfs.expire_after)",
					"role", RoleDBProxy, "avatars", n, "err", err)
				wait = min(wait, time.Hour)
			}
		}
	})
	s.stops.push(endUpkeep, "use of avatars", plainly(keep.stop))
	return nil
}

// useOfFiles returns a function that lets a file of the small file server count as read; nil
// without a server.
func useOfFiles(s *system) (func(ctx context.Context, name string) error, error) {
	at := s.cfg.DBProxy.MSFS
	if at == "" && s.msfs == nil {
		s.log.Warn("avatars expire like other files: no small file server is named (setting "+
			"dbproxy.msfs)", "role", RoleDBProxy)
		return nil, nil
	}
	if at == "" {
		return func(ctx context.Context, name string) error {
			s.msfs.server.Use(ctx, name)
			return nil
		}, nil
	}
	server, err := sound.NewHTTP(sound.HTTPOptions{URL: at, MaxSize: im.MaxAudio,
		Timeout: s.cfg.Link.CallTimeout})
	if err != nil {
		return nil, fmt.Errorf("%w (setting dbproxy.msfs)", err)
	}
	s.stops.push(endUpkeep, "server of avatars", closing(server.Close))
	return server.Use, nil
}

// useAvatars lets the avatars of all users and groups count as read, and returns their number.
// Avatars elsewhere are left out, and those that do not exist.
func useAvatars(ctx context.Context, store im.Store,
	use func(context.Context, string) error) (n int, err error) {
	one := func(url string) error {
		name := msfs.FileInURL(url)
		if name == "" {
			return nil
		}
		if err := use(ctx, name); err != nil && im.KindOf(err) != im.NotFound {
			return err
		}
		n++
		return waits(ctx, avatarPause)
	}
	for after, end := uint32(0), false; !end; {
		users, err := store.ListUsers(ctx, after, avatarPage)
		if err != nil {
			return n, err
		}
		for i := range users {
			after = users[i].ID
			if err := one(users[i].Avatar); err != nil {
				return n, err
			}
		}
		end = len(users) < avatarPage
	}
	for after, end := uint32(0), false; !end; {
		groups, err := store.ListGroups(ctx, after, avatarPage)
		if err != nil {
			return n, err
		}
		for i := range groups {
			after = groups[i].ID
			if err := one(groups[i].Avatar); err != nil {
				return n, err
			}
		}
		end = len(groups) < avatarPage
	}
	return n, nil
}

// waits waits for d, or until ctx ends.
func waits(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
