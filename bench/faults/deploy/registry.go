package deploy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"teamtalk/core/client/loginserver"
)

// How many servers of a role the deployment Registry has.
const registeredMsgs, registeredDBProxies, registeredLogins, registeredFiles = 3, 3, 2, 2

// startRegistered starts a deployment whose servers find each other in the registry. Clients ask a
// login server for a message server.
func startRegistered(ctx context.Context, s *System) error {
	databases, err := s.databases(ctx)
	if err != nil {
		return err
	}
	if err := s.run(ctx, "migrate", "--mysql.master", s.DSN); err != nil {
		return err
	}
	direct := []string{"--store", "mysql", "--mysql.master", s.DSN}
	if err := s.addUsers(ctx, append(direct, s.redis...)); err != nil {
		return err
	}
	for i := range registeredDBProxies {
		a, err := s.ports.reserve(1)
		if err != nil {
			return err
		}
		if err := register(ctx, s, "dbproxy", i, append([]string{"--store", "mysql",
			"--dbproxy.listen", a[0]}, databases[0]...)); err != nil {
			return err
		}
	}
	if err := registerRoute(ctx, s); err != nil {
		return err
	}
	if err := registerLogins(ctx, s); err != nil {
		return err
	}
	if err := registerServices(ctx, s); err != nil {
		return err
	}
	for i := range registeredMsgs {
		if err := registerMsg(ctx, s, i); err != nil {
			return err
		}
	}
	return nil
}

// register starts a server under the name of its role and a number.
func register(ctx context.Context, s *System, role string, i int, args []string) error {
	name := fmt.Sprint(role, i+1)
	args = append(args, "--roles", role, "--registry.enabled", "--node.name", name)
	if s.opts.Kind == Mesh {
		args = append(args, "--msg.whereabouts", "redis")
	}
	return s.serve(ctx, role, name, append(args, s.redis...))
}

// registerRoute starts a route server, if the deployment has one.
func registerRoute(ctx context.Context, s *System) error {
	if s.opts.Kind == Mesh {
		return nil
	}
	a, err := s.ports.reserve(1)
	if err != nil {
		return err
	}
	return register(ctx, s, "route", 0, []string{"--route.listen", a[0]})
}

// registerLogins starts the login servers.
func registerLogins(ctx context.Context, s *System) error {
	for i := range registeredLogins {
		a, err := s.ports.reserve(3)
		if err != nil {
			return err
		}
		front, err := s.link("login", a[2])
		if err != nil {
			return err
		}
		s.Logins = append(s.Logins, "http://"+front+"/msg_server")
		if err := register(ctx, s, "login", i, []string{"--login.server-listen", a[0],
			"--login.client-listen", a[1], "--login.http-listen", a[2]}); err != nil {
			return err
		}
	}
	return nil
}

// registerServices starts the servers that carry no texts.
func registerServices(ctx context.Context, s *System) error {
	settings, err := addServices(s)
	if err != nil {
		return err
	}
	for _, kind := range []string{push, api, small} {
		args := append([]string{"--data-dir", filepath.Join(s.opts.Dir, kind)}, settings[kind]...)
		if err := register(ctx, s, kind, 0, args); err != nil {
			return err
		}
	}
	for i := range registeredFiles {
		args := settings[file]
		if i > 0 {
			a, err := s.ports.reserve(2)
			if err != nil {
				return err
			}
			front, err := s.link(file, a[0])
			if err != nil {
				return err
			}
			host, port, _ := net.SplitHostPort(front) // link made it
			args = []string{"--file.listen", a[0], "--file.server-listen", a[1],
				"--file.advertise-ip", host, "--file.advertise-port", port, "--file.min-free",
				"0B", "--file.dir", filepath.Join(s.opts.Dir, fmt.Sprint("files", i+1))}
		}
		if err := register(ctx, s, file, i, args); err != nil {
			return err
		}
	}
	return nil
}

// registerMsg starts a message server, which clients reach through a proxy.
func registerMsg(ctx context.Context, s *System, i int) error {
	a, err := s.ports.reserve(2)
	if err != nil {
		return err
	}
	front, err := s.link("msg", a[0])
	if err != nil {
		return err
	}
	s.Clients = append(s.Clients, front)
	host, port, _ := strings.Cut(front, ":")
	return register(ctx, s, "msg", i, []string{"--msg.listen", a[0], "--msg.advertise-ip1", host,
		"--msg.advertise-port", port, "--msg.server-listen", a[1]})
}

// awaitServer waits until a login server names a message server.
func awaitServer(ctx context.Context, url string) error {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		_, err := loginserver.Discover(ctx, http.DefaultClient, url)
		if err == nil {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return err
		}
	}
}
