package deploy

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// AppKey is the key with which calls of the HTTP API are made.
const AppKey = "key-of-the-ledger"

// The kinds of the roles that carry no texts.
const file, push, api, small = "file", "push", "http", "msfs"

// addServices chooses the addresses of the services, and returns the settings of the
// processes that have them: by role. A proxy leads to each of them. Everything of an embedded
// deployment is one role.
func addServices(s *System) (map[string][]string, error) {
	a, err := s.ports.reserve(5)
	if err != nil {
		return nil, err
	}
	fronts := make([]string, len(a))
	for i, kind := range []string{file, file, push, api, small} {
		if s.opts.Kind == Embedded {
			kind = node
		}
		if fronts[i], err = s.link(kind, a[i]); err != nil {
			return nil, err
		}
	}
	s.FileServers, s.PushServer, s.API, s.Uploads = fronts[1], fronts[2], fronts[3], fronts[4]
	if s.Pushes, err = startPushService(filepath.Join(s.opts.Dir, "account.json")); err != nil {
		return nil, err
	}
	apps := filepath.Join(s.opts.Dir, "apps.toml")
	err = os.WriteFile(apps, fmt.Appendf(nil, "[[app]]\nname = \"ledger\"\nkey = %q\n"+
		"rate = 1000.0\nburst = 1000\n", AppKey), 0o600)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(fronts[0])
	if err != nil {
		return nil, err
	}
	files := filepath.Join(s.opts.Dir, "files")
	return map[string][]string{
		file: {"--file.listen", a[0], "--file.server-listen", a[1], "--file.advertise-ip", host,
			"--file.advertise-port", port, "--file.min-free", "0B", "--file.dir", files},
		push: {"--push.listen", a[2], "--push.fcm-url", s.Pushes.url,
			"--push.fcm-credentials", s.Pushes.credentials},
		api: {"--http.listen", a[3], "--http.apps-file", apps},
		small: {"--msfs.listen", a[4], "--msfs.url", "http://" + fronts[4] + "/",
			"--msfs.min-free", "0B", "--msfs.dir", files + ".small"},
	}, nil
}

// startServices starts a process for each service of a separate deployment.
func startServices(ctx context.Context, s *System, dbproxies, route string) error {
	settings, err := addServices(s)
	if err != nil {
		return err
	}
	peers := map[string][]string{
		file: {"--file.route", route, "--file.dbproxy", dbproxies},
		api: {"--http.route", route, "--http.dbproxy", dbproxies, "--http.push",
			s.PushServer},
	}
	for _, kind := range []string{file, push, api, small} {
		args := append([]string{"--roles", kind, "--data-dir",
			filepath.Join(s.opts.Dir, kind)}, settings[kind]...)
		if err := s.serve(ctx, kind, kind, append(args, peers[kind]...)); err != nil {
			return err
		}
	}
	return nil
}
