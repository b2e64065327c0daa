package tlsconn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// TestEcho exchanges texts of many lengths, in both versions, while the loop reads one byte
// at a time, a few, or many.
func TestEcho(t *testing.T) {
	pool := handshakes(Options{})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, most := range []int{1, 7, 1000, 64 << 10} {
			t.Run(fmt.Sprint(tls.VersionName(version), " ", most), func(t *testing.T) {
				e, socket := pair(t, pool, most)
				c := tls.Client(socket, clientConfig(version))
				sizes := []int{1, 100, 16<<10 + 1}
				if most > 7 {
					sizes = append(sizes, 1<<20)
				}
				for _, n := range sizes {
					p := make([]byte, n)
					for i := range p {
						p[i] = byte(rand.Uint32())
					}
					exchange(t, c, p)
				}
				if err := c.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if _, err := c.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("after the end: %v", err)
				}
				<-e.done
				if e.failed != io.EOF || !e.ready {
					t.Errorf("the server's end: %v", e.failed)
				}
			})
		}
	}
}

// TestEarlyWrite writes before the handshake. The client reads it afterwards, in order.
func TestEarlyWrite(t *testing.T) {
	e, socket := pair(t, handshakes(Options{}), 1000)
	e.on(func() {
		_ = e.Write([]byte("first "), e.buf)
		_ = e.Writev([][]byte{[]byte("second "), []byte("third")}, e.buf)
		if n := e.Waiting(); n != 18 {
			t.Errorf("%d bytes wait", n)
		}
	})
	c := tls.Client(socket, clientConfig(tls.VersionTLS13))
	got := make([]byte, 18)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "first second third" {
		t.Errorf("%q, %v", got, err)
	}
	e.on(func() {
		if e.Waiting() != 0 || e.Held() != 0 {
			t.Errorf("%d bytes wait, %d are held", e.Waiting(), e.Held())
		}
	})
}

// TestClose ends the connection from the server's side. The client sees a proper end.
func TestClose(t *testing.T) {
	e, socket := pair(t, handshakes(Options{}), 1000)
	c := tls.Client(socket, clientConfig(tls.VersionTLS13))
	exchange(t, c, []byte("hello"))
	e.on(func() {
		_ = e.Write([]byte("bye"), e.buf)
		e.fail(errors.New("closed"))
	})
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "bye" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestLending looks at the memory that crypto/tls keeps for an idle connection.
func TestLending(t *testing.T) {
	if rawInput == 0 || hand == 0 {
		t.Fatal("crypto/tls has other fields: each idle connection costs 9 kB more")
	}
	e, socket := pair(t, handshakes(Options{}), 1000)
	exchange(t, tls.Client(socket, clientConfig(tls.VersionTLS13)), make([]byte, 20<<10))
	e.on(func() {
		for _, f := range []uintptr{rawInput, hand} {
			if n := buffer(e.tls, f).Cap(); n != 0 {
				t.Errorf("a buffer of %d bytes is kept", n)
			}
		}
		if e.left != nil || e.early != nil || e.shake != nil {
			t.Error("the state of the handshake is kept")
		}
	})
}

// TestWithoutLending exchanges texts when crypto/tls keeps its buffers.
func TestWithoutLending(t *testing.T) {
	pool := handshakes(Options{})
	pool.lends = false
	_, socket := pair(t, pool, 1000)
	exchange(t, tls.Client(socket, clientConfig(tls.VersionTLS13)), make([]byte, 100<<10))
}

// TestFirstBytes refuses what is no ClientHello as soon as that is certain.
func TestFirstBytes(t *testing.T) {
	tests := []struct {
		name string
		in   []byte
		err  error
	}{
		{"nothing", nil, nil},
		{"type", []byte{22}, nil},
		{"version", []byte{22, 3, 1, 2}, nil},
		{"header", []byte{22, 3, 1, 2, 0}, nil},
		{"hello", []byte{22, 3, 1, 2, 0, 1, 0}, nil},
		{"frame", []byte{0, 0, 0, 16}, ErrHello},
		{"HTTP", []byte("GET / HTTP/1.1"), ErrHello},
		{"SSL 2", []byte{0x80, 46, 1, 3, 1}, ErrHello},
		{"other version", []byte{22, 2}, ErrHello},
		{"empty record", []byte{22, 3, 1, 0, 0}, ErrHello},
		{"long record", []byte{22, 3, 1, 0x40, 1}, ErrHello},
		{"other message", []byte{22, 3, 1, 2, 0, 2}, ErrHello},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := New(handshakes(Options{}), nil)
			_, err := c.Input(test.in, NewBuffers(), nil)
			if err != test.err {
				t.Errorf("%v, want %v", err, test.err)
			}
		})
	}
}

// hello returns the first bytes of a client.
func hello(t *testing.T) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer b.Close()
	go func() {
		_ = tls.Client(a, clientConfig(tls.VersionTLS13)).Handshake() // ends with a
		a.Close()
	}()
	p := make([]byte, 4096)
	n, err := b.Read(p)
	if err != nil {
		t.Fatal(err)
	}
	return p[:n]
}

// TestFlood sends too much behind a ClientHello.
func TestFlood(t *testing.T) {
	e, socket := pair(t, handshakes(Options{}), maxHandshake)
	if _, err := socket.Write(hello(t)); err != nil {
		t.Fatal(err)
	}
	// Records of the type of data, which crypto/tls refuses; or the bound comes first.
	junk := bytes.Repeat([]byte{23, 3, 3, 0x40, 0}, maxHandshake)
	_, _ = socket.Write(junk) // the server ends the connection while it is written
	<-e.done
	if e.ready || e.failed == nil {
		t.Errorf("ready %v, %v", e.ready, e.failed)
	}
}

// TestFloodWhileWaiting sends too much while the handshake waits for its turn.
func TestFloodWhileWaiting(t *testing.T) {
	pool := handshakes(Options{Most: 1})
	_, first := pair(t, pool, 4096)
	if _, err := first.Write(hello(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Read(make([]byte, 1)); err != nil { // the answer: it runs
		t.Fatal(err)
	}
	e, second := pair(t, pool, 4096)
	_, _ = second.Write(append(hello(t), make([]byte, maxHandshake)...))
	<-e.done
	if e.failed != ErrFlood {
		t.Errorf("%v, want %v", e.failed, ErrFlood)
	}
	if n := pool.queued(); n != 0 {
		t.Errorf("%d handshakes wait", n)
	}
}

// TestCrowd fills all places with clients that send a ClientHello and nothing else. Others
// wait, and log in when the silent ones have been silent for too long.
func TestCrowd(t *testing.T) {
	var clock atomic.Int64
	pool := handshakes(Options{Most: 2,
		Now: func() time.Time { return time.Unix(clock.Load(), 0) }})
	var silent []*echo
	for range 2 {
		e, socket := pair(t, pool, 4096)
		if _, err := socket.Write(hello(t)); err != nil {
			t.Fatal(err)
		}
		if _, err := socket.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		silent = append(silent, e)
	}
	_, socket := pair(t, pool, 4096)
	c := tls.Client(socket, clientConfig(tls.VersionTLS13))
	done := make(chan error, 1)
	go func() { done <- c.Handshake() }()
	for pool.queued() == 0 { // the test's timeout bounds the loop
		time.Sleep(time.Millisecond)
	}
	// The first client waits from second 0 on, but its goroutine may read the clock later.
	for waits := false; !waits; {
		waits = true
		pool.mu.Lock()
		for e := pool.running.Front(); e != nil; e = e.Next() {
			h := e.Value.(*handshake)
			h.mu.Lock()
			waits = waits && !h.silent.IsZero()
			h.mu.Unlock()
		}
		pool.mu.Unlock()
	}
	clock.Store(int64(silentAfter / time.Second))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	exchange(t, c, []byte("hello"))
	<-silent[0].done
	if err := silent[0].failed; err != ErrCrowd {
		t.Errorf("the oldest silent client: %v", err)
	}
	silent[1].on(func() {
		if err := silent[1].failed; err != nil {
			t.Errorf("the other silent client: %v", err)
		}
	})
}

// TestGone ends connections in all phases of the handshake. No handshake remains.
func TestGone(t *testing.T) {
	pool := handshakes(Options{})
	for n := range len(hello(t)) + 1 {
		if n%97 != 0 && n < len(hello(t)) {
			continue
		}
		e, socket := pair(t, pool, 4096)
		if _, err := socket.Write(hello(t)[:n]); err != nil {
			t.Fatal(err)
		}
		socket.Close()
		<-e.done
	}
	for pool.busy() > 0 { // the test's timeout bounds the loop
		time.Sleep(time.Millisecond)
	}
}

// busy returns the handshakes in progress and those that wait.
func (p *Handshakes) busy() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running.Len() + p.waiting.Len()
}

// TestDamage changes one byte of a record. The server ends the connection.
func TestDamage(t *testing.T) {
	e, socket := pair(t, handshakes(Options{}), 4096)
	damaged := &damager{Conn: socket}
	c := tls.Client(damaged, clientConfig(tls.VersionTLS13))
	exchange(t, c, []byte("hello"))
	damaged.on = true
	if _, err := c.Write([]byte("damaged")); err != nil {
		t.Fatal(err)
	}
	<-e.done
	if e.failed == nil || e.got.String() != "hello" {
		t.Errorf("%v after %q", e.failed, e.got.String())
	}
}

// damager changes the last byte of each record that is written.
type damager struct {
	net.Conn
	on bool
}

// Write implements net.Conn.
func (d *damager) Write(p []byte) (int, error) {
	if d.on {
		p = bytes.Clone(p)
		p[len(p)-1] ^= 1
	}
	return d.Conn.Write(p)
}

// FuzzInput passes any bytes as the first ones of a client, in two parts.
func FuzzInput(f *testing.F) {
	f.Add([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 0, 23}, 3)
	f.Add([]byte{22, 3, 1}, 1)
	pool := handshakes(Options{})
	f.Fuzz(func(t *testing.T, p []byte, cut int) {
		posts := make(chan func(), 100)
		done := make(chan error, 1)
		c := New(pool, &recorder{posts: posts, ready: done})
		b := NewBuffers()
		cut = max(0, min(cut, len(p)))
		used, err := c.Input(p[:cut], b, nil)
		if err == nil {
			_, err = c.Input(p[used:], b, nil)
		}
		shakes := c.shake != nil
		c.Close(b)
		if err == nil && shakes {
			for c.shake != nil {
				(<-posts)()
			}
		}
	})
}

// recorder is a transport without a socket.
type recorder struct {
	posts chan func()
	ready chan error
}

// Send implements Transport.
func (r *recorder) Send([]byte) error { return nil }

// Post implements Transport.
func (r *recorder) Post(f func()) { r.posts <- f }

// Ready implements Transport.
func (r *recorder) Ready(err error) { r.ready <- err }
