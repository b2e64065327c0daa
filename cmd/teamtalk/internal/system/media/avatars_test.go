package media

import (
	"context"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/handlers/msfs"
	"teamtalk/proto/pb"
)

// TestAvatarsDoNotExpire: a db_proxy lets the avatars of users and groups count as read, on the
// small file server of its process and on another one. It asks no other host.
func TestAvatarsDoNotExpire(t *testing.T) {
	for name, at := range map[string]func(url string) string{
		"here":            func(string) string { return "" },
		"elsewhere":       func(url string) string { return url },
		"a path below it": func(url string) string { return url + "/upload/" },
	} {
		t.Run(name, func(t *testing.T) { keepsAvatars(t, at) })
	}
}

// newFiles returns the small files of a dbproxy server beside a small file server, whose folder is
// dir, and its store.
func newFiles(t *testing.T, dir string) (*Files, im.Store) {
	t.Helper()
	cfg := config.Default()
	cfg.DataDir, cfg.MSFS.Dir, cfg.MSFS.ExpireAfter = t.TempDir(), dir, 24*time.Hour
	cfg.MSFS.MinFree = 0
	blobs, err := open.Blobs(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { blobs.(io.Closer).Close() })
	store, err := open.Store(t.Context(), cfg, open.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	server := msfs.New(msfs.Options{Store: blobs, MaxSize: 1 << 20, MaxUploads: 1,
		Expiry: msfs.Expiry{After: cfg.MSFS.ExpireAfter}})
	web := httptest.NewServer(server)
	t.Cleanup(web.Close)
	held := new(stops.Stack)
	t.Cleanup(func() {
		if err := held.Run(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &Files{Config: cfg, Here: server, URL: web.URL, Stops: held,
		Log: slog.New(slog.DiscardHandler)}, store
}

func keepsAvatars(t *testing.T, at func(url string) string) {
	dir, ctx := t.TempDir(), t.Context()
	f, store := newFiles(t, dir)
	// These files were stored earlier, so none has a mark.
	names := []string{"g0/000/001/user.jpg", "g0/000/002/group.jpg", "g0/000/003/other.jpg"}
	for _, name := range names {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	users, err := store.CreateUsers(ctx, []im.Account{
		{User: im.User{Name: "a", Avatar: "http://files.example.com/" + names[0]}},
		{User: im.User{Name: "b", Avatar: "http://127.0.0.1:1/elsewhere.jpg"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, avatar := range []string{"/" + names[1], "/g0/000/009/gone.jpg"} {
		if _, err := store.CreateGroup(ctx, im.Group{Name: "g", Avatar: avatar,
			Creator: users[0], Type: pb.GroupType_GROUP_TYPE_NORMAL, Members: users},
			0); err != nil {
			t.Fatal(err)
		}
	}
	f.Config.DBProxy.MSFS = at(f.URL)
	use, err := f.use()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := useAvatars(ctx, store, use); n != 3 || err != nil {
		t.Errorf("%d avatars, %v", n, err)
	}
	goesOn(t, store, names[0])
	for i, name := range names {
		_, err := os.Stat(filepath.Join(dir, name+"!"))
		if marked := err == nil; marked != (i < 2) {
			t.Errorf("%s is marked: %v", name, marked)
		}
	}
}

// goesOn requires that an avatar that the server cannot read does not stop a round.
func goesOn(t *testing.T, store im.Store, bad string) {
	t.Helper()
	used := 0
	n, err := useAvatars(t.Context(), store, func(_ context.Context, name string) error {
		if used++; name == bad {
			return im.Errorf(im.Unavailable, "500")
		}
		return nil
	})
	if n != 2 || used != 3 || err == nil {
		t.Errorf("with one that fails: %d of %d avatars, %v", n, used, err)
	}
}
