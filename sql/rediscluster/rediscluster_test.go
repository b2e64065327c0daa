package rediscluster

import (
	"bufio"
	"context"
	"errors"
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

// fakeCluster has two masters, each with half of the slots. The second one can be made
// silent: it then accepts connections and answers nothing, as a stopped process does.
type fakeCluster struct {
	nodes  [2]net.Listener
	silent atomic.Bool
	maps   atomic.Int32 // how often the slot map was asked for
}

// newFakeCluster starts a fakeCluster.
func newFakeCluster(t *testing.T) *fakeCluster {
	t.Helper()
	c := &fakeCluster{}
	for i := range c.nodes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		c.nodes[i] = l
	}
	for i, l := range c.nodes {
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go c.serve(i, conn)
			}
		}()
	}
	return c
}

// addrs returns the addresses of the nodes.
func (c *fakeCluster) addrs() []string {
	return []string{c.nodes[0].Addr().String(), c.nodes[1].Addr().String()}
}

// serve answers the commands of one connection.
func (c *fakeCluster) serve(node int, conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		words, err := dbtest.ReadCommand(in)
		if err != nil {
			return
		}
		if node == 1 && c.silent.Load() {
			continue
		}
		switch strings.ToLower(words[0]) {
		case "cluster": // SLOTS
			c.maps.Add(1)
			fmt.Fprint(conn, "*2\r\n")
			for i, slots := range []string{":0\r\n:8191", ":8192\r\n:16383"} {
				fmt.Fprintf(conn, "*3\r\n%s\r\n*3\r\n$9\r\n127.0.0.1\r\n:%d\r\n$5\r\nnode%d\r\n",
					slots, c.nodes[i].Addr().(*net.TCPAddr).Port, i)
			}
		case "command":
			fmt.Fprint(conn, "*0\r\n")
		case "hello", "client":
			fmt.Fprint(conn, "-ERR unknown command\r\n")
		default:
			fmt.Fprint(conn, "+OK\r\n")
		}
	}
}

// Keys in the slots of the first and of the second node.
const (
	firstKey  = "b" // slot 3300
	secondKey = "a" // slot 15495
)

// TestSilentNode makes a node silent. After the first command has timed out, the node is
// refused at once, also in a pipeline, in which the other node answers. When the node
// answers again, it is used again.
func TestSilentNode(t *testing.T) {
	t.Parallel()
	c := newFakeCluster(t)
	changed := make(chan string, 10)
	client := New(&redis.ClusterOptions{Addrs: c.addrs(), Protocol: 2, DisableIdentity: true,
		ReadTimeout: time.Second, DialerRetries: 1,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled}},
		func(node string, up bool) { changed <- fmt.Sprint(node, " ", up) })
	defer client.Close()
	ctx := t.Context()
	for _, key := range []string{firstKey, secondKey} {
		if err := client.Set(ctx, key, 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	c.silent.Store(true)
	maps := c.maps.Load()
	var timeout net.Error
	if err := client.Set(ctx, secondKey, 1, 0).Err(); !errors.As(err, &timeout) {
		t.Errorf("a silent node: %v, want a time-out", err)
	}
	if got, want := <-changed, c.addrs()[1]+" false"; got != want {
		t.Errorf("reported %q, want %q", got, want)
	}
	if err := client.Set(ctx, secondKey, 1, 0).Err(); !errors.Is(err, ErrDown) {
		t.Errorf("a node that is down: %v, want ErrDown", err)
	}
	var first, second *redis.StatusCmd
	_, _ = client.Pipelined(ctx, func(p redis.Pipeliner) error {
		second, first = p.Set(ctx, secondKey, 1, 0), p.Set(ctx, firstKey, 1, 0)
		return nil
	})
	if err := first.Err(); err != nil {
		t.Errorf("the other node in a pipeline: %v", err)
	}
	if err := second.Err(); !errors.Is(err, ErrDown) {
		t.Errorf("the node that is down in a pipeline: %v, want ErrDown", err)
	}
	for c.maps.Load() == maps { // the test's timeout bounds the loop
		time.Sleep(time.Millisecond)
	}
	c.silent.Store(false)
	if got, want := <-changed, c.addrs()[1]+" true"; got != want {
		t.Errorf("reported %q, want %q", got, want)
	}
	if err := client.Set(ctx, secondKey, 1, 0).Err(); err != nil {
		t.Errorf("after the node answers again: %v", err)
	}
}

// TestCloseEndsProbes closes a client while a node is down. No probe may remain.
func TestCloseEndsProbes(t *testing.T) {
	t.Parallel()
	c := newFakeCluster(t)
	c.nodes[1].Close()
	changed := make(chan bool, 10)
	client := New(&redis.ClusterOptions{Addrs: c.addrs(), Protocol: 2, DisableIdentity: true,
		DialerRetries: 1, MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled}}, func(_ string, up bool) { changed <- up })
	if err := client.Set(t.Context(), secondKey, 1, 0).Err(); err == nil {
		t.Error("no error of a node that refuses connections")
	}
	if <-changed {
		t.Error("the node was reported as up")
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if err := client.Set(context.Background(), secondKey, 1, 0).Err(); err == nil {
		t.Error("no error after Close")
	}
	if len(changed) > 0 {
		t.Error("the node was reported again")
	}
}
