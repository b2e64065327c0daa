// Package deploy runs a whole deployment of the servers as processes of this machine, so
// that faults can be injected into it: each role and each database is a process of its
// own, and a Proxy carries each kind of connection between them.
//
// The deployment lives in one folder, listens on loopback only, and ends with this
// process, even if that is killed. It needs Linux.
package deploy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The kinds of deployments.
const (
	Embedded = "embedded" // all roles in one process, on the embedded store
	Separate = "separate" // a process for each role, on MariaDB and Redis
	Galera   = "galera"   // two dbproxies, on two of three Galera nodes, and Redis
	Cluster  = "cluster"  // as Separate, with a Redis Cluster of three masters and replicas
	Sentinel = "sentinel" // as Separate, with a Redis master, two replicas and three Sentinels
	Replica  = "replica"  // two dbproxies on a MariaDB master with a read replica, and Redis
	// Registry has three message servers, three dbproxies, two login and two file servers, which
	// find each other in the registry, on MariaDB and Redis.
	Registry = "registry"
	// Mesh is Registry without a route server: the message servers find each other's users in
	// Redis.
	Mesh = "mesh"
)

// Kinds are the kinds of deployments.
var Kinds = []string{Embedded, Separate, Galera, Cluster, Sentinel, Replica, Registry, Mesh}

// The kinds of Redis.
const (
	Single         = "single"   // one server
	RedisSentinels = "sentinel" // a master, two replicas and three Sentinels
	RedisCluster   = "cluster"  // three masters and three replicas
)

// RedisKinds are the kinds of Redis.
var RedisKinds = []string{Single, RedisSentinels, RedisCluster}

// ErrUnavailable is returned where processes cannot be bound to this one: on every
// operating system but Linux.
var ErrUnavailable = errors.New("faults need Linux")

// Options describe a deployment.
type Options struct {
	Kind   string // one of Kinds
	Redis  string // one of RedisKinds; empty: that of the kind
	Binary string // the program "teamtalk"
	Dir    string // an empty folder for data and logs
	Users  int    // u00001, u00002, …, with the password Password
	// SmallDisk puts the data of the store on a small disk, which Fill fills. The process must
	// run in RunWithDisks. For the deployments Embedded and Separate only.
	SmallDisk bool
	Flags     []string
}

// Password is the password of all users.
const Password = "pw"

// User returns the name of a user; the first has number 1.
func User(n int) string { return fmt.Sprintf("u%05d", n) }

// System is a running deployment.
type System struct {
	Roles   []*Role  // in the order in which they start
	Links   []*Proxy // by the role that they lead to
	Clients []string // addresses of the message servers, through a proxy
	Logins  []string // URLs of the login servers, if clients ask one; otherwise empty
	DSN     string   // of the database, without a proxy; empty: the store is embedded
	DataDir string   // of the embedded store

	// Addresses through proxies: of the file server for message servers, of the push server,
	// of the HTTP API and of the small file server.
	FileServers, PushServer, API, Uploads string
	Pushes                                *PushService // gets the pushes for Android

	opts    Options
	ports   ports
	migrate []string // data source names of the databases to migrate, one after the other
	redis   []string // settings of the servers that use Redis
	disk    string   // folder of the small disk; empty: there is none
	client  string   // the program of MariaDB's client, in the deployments Replica and Galera
}

// Start starts a deployment and waits until it is ready. After an error nothing runs.
func Start(ctx context.Context, o Options) (*System, error) {
	s := &System{opts: o}
	err := errors.Join(s.opts.chooseRedis(), s.addDisk())
	if err != nil {
		return nil, err
	}
	switch o.Kind {
	case Embedded:
		err = s.embedded(ctx)
	case Separate, Galera, Cluster, Sentinel, Replica:
		err = s.separate(ctx)
	case Registry, Mesh:
		err = startRegistered(ctx, s)
	default:
		err = fmt.Errorf("deployment %q: want %s", o.Kind, strings.Join(Kinds, ", "))
	}
	if err == nil {
		err = s.AwaitReady(ctx)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Kind returns the kind of the deployment.
func (s *System) Kind() string { return s.opts.Kind }

// RedisOf returns the kind of Redis of a deployment, empty without one.
func RedisOf(s *System) string { return s.opts.Redis }

// chooseRedis sets the kind of Redis where the options name none.
func (o *Options) chooseRedis() error {
	own := map[string]string{Embedded: "", Cluster: RedisCluster, Sentinel: RedisSentinels}
	of, fixed := own[o.Kind]
	switch {
	case o.Redis == "" && fixed:
		o.Redis = of
	case o.Redis == "":
		o.Redis = Single
	case fixed && o.Redis != of:
		return fmt.Errorf("the deployment %q has no Redis of the kind %q", o.Kind, o.Redis)
	case !slices.Contains(RedisKinds, o.Redis):
		return fmt.Errorf("redis %q: want %s", o.Redis, strings.Join(RedisKinds, ", "))
	}
	return nil
}

// Close kills all processes and closes the proxies. The folder stays.
func (s *System) Close() {
	for _, r := range slices.Backward(s.Roles) {
		r.Kill()
	}
	for _, p := range s.Links {
		p.Close()
	}
	if s.Pushes != nil {
		s.Pushes.close()
	}
	if s.disk != "" {
		unmountDisk(s.disk)
	}
	s.ports.release()
}

// diskSizes are the sizes of small disks: room for the data of an empty store, and for some
// thousand messages.
var diskSizes = map[string]int{Embedded: 24 << 20, Separate: 256 << 20}

// addDisk mounts the small disk.
func (s *System) addDisk() error {
	if !s.opts.SmallDisk {
		return nil
	}
	size := diskSizes[s.opts.Kind]
	if size == 0 {
		return fmt.Errorf("the deployment %q has no small disk: use %s or %s", s.opts.Kind,
			Embedded, Separate)
	}
	dir := filepath.Join(s.opts.Dir, "disk")
	if err := mountDisk(dir, size); err != nil {
		return err
	}
	s.disk = dir
	return nil
}

// OnDisk returns the kind of the role whose data are on the small disk, "" without a disk.
func (s *System) OnDisk() string {
	switch {
	case s.disk == "":
		return ""
	case s.opts.Kind == Embedded:
		return node
	default:
		return mariadb
	}
}

// storeDir returns the folder for the data of the store.
func (s *System) storeDir() string { return cmp.Or(s.disk, s.opts.Dir) }

// AwaitReady waits until all roles are ready, and each login server knows a message server.
func (s *System) AwaitReady(ctx context.Context) error {
	for _, r := range s.Roles {
		if err := r.AwaitReady(ctx); err != nil {
			return err
		}
	}
	for _, url := range s.Logins {
		if err := awaitServer(ctx, url); err != nil {
			return err
		}
	}
	return nil
}

// OfKind returns the roles of a kind, such as "msg"; none when there is no such kind.
func (s *System) OfKind(kind string) (list []*Role) {
	for _, r := range s.Roles {
		if r.Kind == kind {
			list = append(list, r)
		}
	}
	return list
}

// LinksTo returns the proxies that lead to roles of a kind.
func (s *System) LinksTo(kind string) (list []*Proxy) {
	for _, p := range s.Links {
		if p.Kind == kind {
			list = append(list, p)
		}
	}
	return list
}

// link adds a proxy to a role at addr, and returns its address.
func (s *System) link(kind, addr string) (string, error) {
	p, err := NewProxy(kind, addr)
	if err != nil {
		return "", err
	}
	s.Links = append(s.Links, p)
	return p.Addr(), nil
}

// embedded starts all roles in one process.
func (s *System) embedded(ctx context.Context) error {
	s.DataDir = filepath.Join(s.storeDir(), "data")
	store := []string{"--data-dir", s.DataDir}
	if err := s.addUsers(ctx, store); err != nil {
		return err
	}
	addrs, err := s.ports.reserve(3)
	if err != nil {
		return err
	}
	front, err := s.link(node, addrs[0])
	if err != nil {
		return err
	}
	s.Clients = []string{front, front}
	services, err := addServices(s)
	if err != nil {
		return err
	}
	args := append(store, "--roles", "login,msg,route,dbproxy,file,push,http,msfs",
		"--msg.listen", addrs[0], "--login.client-listen", addrs[1],
		"--login.http-listen", addrs[2])
	for _, kind := range []string{file, push, api, small} {
		args = append(args, services[kind]...)
	}
	return s.serve(ctx, node, node, args)
}

// node is the kind of the process of an embedded deployment.
const node = "node"

// separate starts a process for each role and each database.
func (s *System) separate(ctx context.Context) error {
	databases, err := s.databases(ctx)
	if err != nil {
		return err
	}
	for _, dsn := range s.migrate {
		if err := s.run(ctx, "migrate", "--mysql.master", dsn); err != nil {
			return err
		}
	}
	direct := []string{"--store", "mysql", "--mysql.master", s.DSN}
	if err := s.addUsers(ctx, append(direct, s.redis...)); err != nil {
		return err
	}
	var dbproxies []string
	for i, settings := range databases {
		front, err := s.dbproxy(ctx, fmt.Sprint("dbproxy", i+1), settings)
		if err != nil {
			return err
		}
		dbproxies = append(dbproxies, front)
	}
	a, err := s.ports.reserve(6)
	if err != nil {
		return err
	}
	route, login := a[0], a[1]
	if err := s.serve(ctx, "route", "route", []string{"--roles", "route",
		"--route.listen", route}); err != nil {
		return err
	}
	if err := s.serve(ctx, "login", "login", []string{"--roles", "login",
		"--login.server-listen", login, "--login.client-listen", a[2],
		"--login.http-listen", a[3]}); err != nil {
		return err
	}
	if route, err = s.link("route", route); err != nil {
		return err
	}
	if login, err = s.link("login", login); err != nil {
		return err
	}
	all := strings.Join(dbproxies, ",")
	if err := startServices(ctx, s, all, route); err != nil {
		return err
	}
	return s.msg(ctx, a[4:], "--msg.dbproxy", all, "--msg.route", route, "--msg.login", login,
		"--msg.file", s.FileServers, "--msg.push", s.PushServer)
}

// dbproxy starts a dbproxy, and returns the address of the proxy to it.
func (s *System) dbproxy(ctx context.Context, name string, databases []string) (string, error) {
	a, err := s.ports.reserve(1)
	if err != nil {
		return "", err
	}
	if err := s.serve(ctx, "dbproxy", name, append([]string{"--roles", "dbproxy", "--store",
		"mysql", "--dbproxy.listen", a[0]}, databases...)); err != nil {
		return "", err
	}
	return s.link("dbproxy", a[0])
}

// msg starts the message servers.
func (s *System) msg(ctx context.Context, addrs []string, peers ...string) error {
	for i, addr := range addrs {
		front, err := s.link("msg", addr)
		if err != nil {
			return err
		}
		s.Clients = append(s.Clients, front)
		if err := s.serve(ctx, "msg", fmt.Sprint("msg", i+1), append([]string{"--roles", "msg",
			"--msg.listen", addr}, peers...)); err != nil {
			return err
		}
	}
	return nil
}

// serve starts a server.
func (s *System) serve(ctx context.Context, kind, name string, args []string) error {
	addrs, err := s.ports.reserve(1)
	if err != nil {
		return err
	}
	// The clients add and remove one user all the time.
	args = append(append([]string{"serve", "--admin.listen", addrs[0], "--msg.rate", "0",
		"--dbproxy.group-gains", "0", "--link.backoff-max", "1s"}, args...), s.opts.Flags...)
	return s.add(ctx, &Role{Kind: kind, Name: name, program: s.opts.Binary, args: args,
		dir: s.opts.Dir, clock: filepath.Join(s.opts.Dir, name+".clock"),
		ready: func(ctx context.Context) error { return readyz(ctx, addrs[0]) }})
}

// add starts a role. It waits for its readiness only if the next ones need it: that of a
// database.
func (s *System) add(ctx context.Context, r *Role) error {
	if err := r.Start(); err != nil {
		return err
	}
	s.Roles = append(s.Roles, r)
	if slices.Contains(Databases, r.Kind) {
		return r.AwaitReady(ctx)
	}
	return nil
}

// addUsers adds the users to the store.
func (s *System) addUsers(ctx context.Context, store []string) error {
	return s.run(ctx, append([]string{"user", "add", "--count", fmt.Sprint(s.opts.Users),
		"--format", "u%05d", "--password", Password}, store...)...)
}

// run runs a command of the program to its end.
func (s *System) run(ctx context.Context, args ...string) error {
	return runProgram(ctx, s.opts.Dir, s.opts.Binary, args...)
}

// runProgram runs a program to its end. The error has its output.
func runProgram(ctx context.Context, dir, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = dir, environment()
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", filepath.Base(program), args[0], err,
			strings.TrimSpace(string(out)))
	}
	return nil
}

// environment returns the environment of this process without the settings of its user.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "TEAMTALK_")
	})
}
