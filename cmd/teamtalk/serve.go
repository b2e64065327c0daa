package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/core/obs"
)

func newServeCommand() *cobra.Command {
	var demo bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the servers",
		Long: `Run the servers: all of them in this process, or those named with --roles.

Without any setting it runs the whole system on an embedded store in ./teamtalk-data, and needs nothing
else. With --roles the servers of a larger deployment run as processes of their own, beside each other or
beside the C++ ones; each message server is told where the others are.

Logs go to standard error. It ends on Ctrl-C or SIGTERM, once what it has accepted is finished; a second
signal ends it at once.`,
		Example: `  teamtalk serve --demo
  teamtalk serve --data-dir /var/lib/teamtalk
  teamtalk serve --config teamtalk.toml
  teamtalk serve --roles msg --msg.dbproxy db1:10600 --msg.route rt1:8200 --msg.login lg1:8100`,
		Args: checkArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, demo, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	addConfigFlags(cmd)
	cmd.Flags().BoolVar(&demo, "demo", false, "make two users, alice and bob, and say how to chat as them; let people on this machine register")
	return cmd
}

// serve runs the system until ctx ends or a part of it fails.
func serve(ctx context.Context, cfg *config.Config, demo bool, out, errOut io.Writer) error {
	log, err := obs.NewLogger(errOut, obs.LogOptions{Level: cfg.Log.Level, Format: cfg.Log.Format})
	if err != nil {
		return err
	}
	if demo && !cfg.Runs(roleDBProxy) {
		return &usageError{err: fmt.Errorf("--demo makes users in the store: it needs the role %s in this process", roleDBProxy)}
	}
	if cfg.Admin.PProf {
		runtime.SetMutexProfileFraction(mutexProfileFraction)
	}
	s, err := startSystem(ctx, cfg, log, demo)
	if err != nil {
		return err
	}
	defer spareProcessors(cfg.Loops)()
	defer inBackground(trimMemory).stop()
	if demo {
		err = makeDemoUsers(ctx, s.store)
	}
	if err == nil {
		s.banner(out, demo)
		err = s.Wait(ctx)
	}
	if err != nil {
		log.Error("stopping because of a failure", "err", err)
	} else {
		log.Info("stopping", "timeout", cfg.ShutdownTimeout)
	}
	stop, cancel := context.WithTimeout(context.Background(), cfg.ShutdownTimeout)
	defer cancel()
	if stopErr := s.Stop(stop); stopErr != nil {
		log.Warn("not everything ended in order", "err", stopErr)
		if err == nil {
			err = stopErr
		}
	}
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// mutexProfileFraction is of how many waits for locks one is recorded, with the profiler on: enough to see which lock it is, too few to be felt.
const mutexProfileFraction = 20

// demoPassword is the password of the demo users. Everybody knows it: that is what makes it a demo.
const demoPassword = "demo"

var demoUsers = []string{"alice", "bob"}

// makeDemoUsers adds the users that are not there yet.
func makeDemoUsers(ctx context.Context, store im.Store) error {
	for _, name := range demoUsers {
		if _, err := store.AccountByName(ctx, name); err == nil {
			continue
		} else if im.KindOf(err) != im.NotFound {
			return fmt.Errorf("look for demo user %s: %w", name, err)
		}
		users := []newUser{{User: im.User{Name: name, Nick: name}, password: demoPassword}}
		if _, err := addUsers(ctx, store, users); err != nil {
			return fmt.Errorf("make demo user %s: %w", name, err)
		}
	}
	return nil
}

// banner says what runs where, and what to do next.
func (s *system) banner(w io.Writer, demo bool) {
	v := obs.ReadVersion(version, revision)
	fmt.Fprintf(w, "TeamTalk %s: %s\n\n", v.Version, strings.Join(s.cfg.Roles, ", "))
	line := func(what, where string) { fmt.Fprintf(w, "  %-15s %s\n", what, where) }
	for _, p := range s.ports {
		switch p.name {
		case "clients":
			ip, _, number := s.advertised(p)
			line("clients", fmt.Sprintf("tcp %s (announced as %s:%d)", p.Addr(), ip, number))
		default:
			line(p.name, "tcp "+p.Addr().String())
		}
	}
	if s.http != nil {
		line("login", "http://"+reachable(s.http.Addr().String())+"/msg_server")
	}
	if s.msfs != nil {
		line("files", s.msfs.url)
	}
	if s.api != nil && s.api.addr != "" {
		line("http", "http://"+reachable(s.api.addr)+"/openapi.json")
	}
	if s.admin != nil {
		line("admin", fmt.Sprintf("http://%s  /metrics /healthz /readyz", reachable(s.admin.Addr().String())))
	}
	if s.store != nil {
		line("store", s.storeName())
	}
	fmt.Fprintln(w)
	self := selfCommand()
	switch {
	case demo:
		fmt.Fprintf(w, "Two users, alice and bob, have the password %q. In two more terminals:\n\n", demoPassword)
		for i, name := range demoUsers {
			fmt.Fprintf(w, "  %s chat %s %s --password %s%s\n", self, name, demoUsers[1-i], demoPassword, s.chatServer())
		}
		fmt.Fprintln(w)
		if url, _ := s.registration(); url != "" {
			where := ""
			if s.cfg.HTTP.AppsFile == "" { // else it says who may
				where = ", on this machine"
			}
			fmt.Fprintf(w, "Somebody new%s:\n\n  %s chat NAME --register%s\n\n", where, self, s.chatServer())
		}
	case s.store != nil && s.msg != nil:
		fmt.Fprintf(w, "Next: %s user add NAME, then %s chat NAME%s\n\n", self, self, s.chatServer())
	}
}

// chatServer is what chat has to be told when login's HTTP port is not the usual one.
func (s *system) chatServer() string {
	if s.http == nil {
		return ""
	}
	addr := reachable(s.http.Addr().String())
	if strings.HasSuffix(addr, ":8080") {
		return ""
	}
	return " --server http://" + addr
}

func (s *system) storeName() string {
	if s.cfg.Store != "embedded" {
		return fmt.Sprintf("MySQL %s, Redis %s", s.cfg.MySQL.Master, strings.Join(s.cfg.Redis.Addrs, ","))
	}
	dir, err := filepath.Abs(s.cfg.DataDir)
	if err != nil {
		dir = s.cfg.DataDir
	}
	return "embedded, in " + dir
}

// reachable is an address listened on as somebody on this machine would type it.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip, bad := netip.ParseAddr(host); err == nil && (host == "" || bad == nil && ip.IsUnspecified()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// selfCommand is how this program was called, to be typed again.
func selfCommand() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/teamtalk"
	}
	return os.Args[0]
}
