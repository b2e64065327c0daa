package redissentinel

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"teamtalk/sql/dbtest"
)

// fake is a server that answers as a Redis master or as a Sentinel.
type fake struct {
	net.Listener
	name   string
	hangs  atomic.Bool             // it answers nothing, as a stopped process does
	master atomic.Pointer[fake]    // of a Sentinel
	others atomic.Pointer[[]*fake] // the Sentinels that a Sentinel knows
	conns  chan net.Conn           // of a master
}

// start starts a server.
func start(t *testing.T, name string) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{Listener: l, name: name, conns: make(chan net.Conn, 100)}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.conns <- c
			go f.serve(c)
		}
	}()
	return f
}

// sentinels starts three Sentinels that name a master.
func sentinels(t *testing.T, master *fake) []*fake {
	var list []*fake
	for i := range 3 {
		s := start(t, fmt.Sprint("sentinel", i))
		s.master.Store(master)
		list = append(list, s)
	}
	return list
}

// serve answers the commands of a connection.
func (f *fake) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		words, err := dbtest.ReadCommand(in)
		if err != nil {
			return
		}
		if f.hangs.Load() {
			continue
		}
		switch strings.ToLower(strings.Join(words[:min(2, len(words))], " ")) {
		case "sentinel get-master-addr-by-name":
			fmt.Fprintf(c, "*2\r\n%s", f.master.Load().address())
		case "sentinel sentinels":
			others := f.others.Load()
			if others == nil {
				fmt.Fprint(c, "*0\r\n")
				continue
			}
			fmt.Fprintf(c, "*%d\r\n", len(*others))
			for _, o := range *others {
				host, port, _ := strings.Cut(strings.TrimSuffix(o.address(), "\r\n"), "\r\n$")
				fmt.Fprintf(c, "*4\r\n$2\r\nip\r\n%s\r\n$4\r\nport\r\n$%s\r\n", host, port)
			}
		case "get name":
			fmt.Fprintf(c, "$%d\r\n%s\r\n", len(f.name), f.name)
		default:
			fmt.Fprint(c, "-ERR unknown command\r\n")
		}
	}
}

// address returns host and port as two strings of the protocol.
func (f *fake) address() string {
	host, port, _ := net.SplitHostPort(f.Addr().String())
	return fmt.Sprintf("$%d\r\n%s\r\n$%d\r\n%s\r\n", len(host), host, len(port), port)
}

// connect returns a client of the master that Sentinels name.
func connect(t *testing.T, list ...*fake) *Client {
	var addrs []string
	for _, s := range list {
		addrs = append(addrs, s.Addr().String())
	}
	c := New(Options{Master: "m", Sentinels: addrs}, &redis.Options{Protocol: 2, PoolSize: 2,
		MaxRetries: -1, DialerRetries: 1, DialTimeout: time.Minute, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled}})
	t.Cleanup(func() { c.Close() })
	return c
}

// await waits until the client's commands reach a master.
func await(t *testing.T, c *Client, want string) {
	t.Helper()
	var got string
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if got, err = c.Get(t.Context(), "name").Result(); got == want {
			return
		}
		time.Sleep(time.Millisecond) // polls the answers of Sentinels, which send no event
	}
	t.Fatalf("the command reached %q (%v), want %s", got, err, want)
}

// leave closes a server and its connections.
func (f *fake) leave() {
	f.Close()
	for len(f.conns) > 0 {
		(<-f.conns).Close()
	}
}

// TestHangingSentinels: any one Sentinel may hang, and two, when the master dies. The
// connections lead to the new one.
func TestHangingSentinels(t *testing.T) {
	t.Parallel()
	for hanging := range 3 {
		t.Run(fmt.Sprint("from ", hanging), func(t *testing.T) {
			t.Parallel()
			first, second := start(t, "first"), start(t, "second")
			list := sentinels(t, first)
			c := connect(t, list...)
			await(t, c, "first")
			for i := range 2 {
				list[(hanging+i)%3].hangs.Store(true)
			}
			list[(hanging+2)%3].master.Store(second)
			first.leave()
			await(t, c, "second")
		})
	}
}

// TestLaggingSentinel: a Sentinel that has missed a failover names the former master, which
// still answers. New connections lead to the master that the others name, and connections
// to the former one are closed.
func TestLaggingSentinel(t *testing.T) {
	t.Parallel()
	first, second := start(t, "first"), start(t, "second")
	list := sentinels(t, first)
	c := connect(t, list...)
	await(t, c, "first")
	list[1].master.Store(second)
	list[2].master.Store(second)
	await(t, c, "second")
}

// TestNamedMasterIsDown: when the master that most Sentinels name is down, the one that the
// others name is tried.
func TestNamedMasterIsDown(t *testing.T) {
	t.Parallel()
	first, second := start(t, "first"), start(t, "second")
	list := sentinels(t, first)
	list[2].master.Store(second)
	first.leave()
	await(t, connect(t, list...), "second")
}

// TestFoundSentinels: when no Sentinel of the options answers any more, those that they
// know are asked.
func TestFoundSentinels(t *testing.T) {
	t.Parallel()
	first, second := start(t, "first"), start(t, "second")
	list := sentinels(t, first)
	others := list[1:]
	list[0].others.Store(&others)
	c := connect(t, list[0])
	await(t, c, "first")
	for end := time.Now().Add(time.Minute); len(c.masters.sentinels(true)) < 3; {
		if time.Now().After(end) {
			t.Fatal("the other Sentinels are not found")
		}
		time.Sleep(time.Millisecond) // polls the goroutine that watches
	}
	for _, s := range others {
		s.master.Store(second)
	}
	list[0].leave()
	first.leave()
	await(t, c, "second")
}

// TestNoSentinel: the error of a command names the master and the Sentinels that do not
// answer.
func TestNoSentinel(t *testing.T) {
	t.Parallel()
	list := sentinels(t, start(t, "first"))
	for _, s := range list {
		s.leave()
	}
	err := connect(t, list...).Get(t.Context(), "name").Err()
	for _, s := range list {
		if err == nil || !strings.Contains(err.Error(), s.Addr().String()) {
			t.Errorf("error %v, want one that names %s", err, s.Addr())
		}
	}
}
