package msfs

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"teamtalk/core/blob"
	"teamtalk/core/origin"
	"teamtalk/core/web"
	"teamtalk/core/web/webtest"
)

// slowBudget is a budget of 1 MiB that hardly refills during a test.
var slowBudget = Budget{Rate: 1, Burst: 1 << 20}

// from returns a client that connects from an address of this machine.
func from(t *testing.T, addr string) *http.Client {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	tr := &http.Transport{DialContext: d.DialContext}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// send uploads a file of n bytes and returns the answer.
func (r *rig) send(c *http.Client, n int) uploaded {
	r.Helper()
	body, kind := form(r.T, "file", "a.jpg", bytes.Repeat([]byte{'x'}, n))
	rsp, err := c.Post(r.url, kind, bytes.NewReader(body))
	return r.answerOf(rsp, err)
}

// sendChunked is send without a length.
func (r *rig) sendChunked(c *http.Client, n int) uploaded {
	r.Helper()
	body, kind := form(r.T, "file", "a.jpg", bytes.Repeat([]byte{'x'}, n))
	rsp, err := c.Post(r.url, kind, io.MultiReader(bytes.NewReader(body)))
	return r.answerOf(rsp, err)
}

func (r *rig) results(result string) float64 {
	return testutil.ToFloat64(r.server.metrics.uploads.WithLabelValues(result))
}

// TestAbuseBudget: one address uploads its budget, and others and downloads do not notice.
func TestAbuseBudget(t *testing.T) {
	var log logged
	r := newRig(t, func(o *Options) {
		o.Budget, o.Linger = slowBudget, webtest.Patience
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	one, other := from(t, "127.0.0.1"), from(t, "127.0.0.2")
	first := r.send(one, 600<<10)
	if first.Code != 0 {
		t.Fatalf("within the budget: %+v", first)
	}
	kept := r.files()
	for what, u := range map[string]uploaded{"more than the rest": r.send(one, 600<<10),
		"more than the rest, without a length": r.sendChunked(one, 600<<10)} {
		if u.Code != 9 || u.Text == "" || u.URL != "" {
			t.Errorf("%s: %+v", what, u)
		}
	}
	if n := r.files(); n != kept || r.results("budget") != 2 {
		t.Errorf("%d files after refusals, want %d; %v refusals counted", n, kept,
			r.results("budget"))
	}
	if s := log.String(); !strings.Contains(s, "msfs.upload_rate") ||
		!strings.Contains(s, "addr=127.0.0.1:") {
		t.Errorf("log: %s", s)
	}
	if u := r.send(other, 600<<10); u.Code != 0 {
		t.Errorf("another address: %+v", u)
	}
	if rsp, _ := r.get("/" + first.Path); rsp.StatusCode != 200 {
		t.Errorf("a download over the budget: %d", rsp.StatusCode)
	}
}

// TestBudgetReturnsWhatDoesNotArrive: an upload that is broken off costs the bytes that have
// arrived, and a refused one costs nothing.
func TestBudgetReturnsWhatDoesNotArrive(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Budget = slowBudget })
	c := from(t, "127.0.0.1")
	for range 3 {
		raw := webtest.Dial(t, r.web)
		io.WriteString(raw, strings.ReplaceAll(head+"Content-Length: 1000000\n\n"+part+"x", "\n",
			"\r\n"))
		raw.(*net.TCPConn).CloseWrite()
		if a := webtest.Rest(t, raw); !refused(a) {
			t.Errorf("a broken upload: %q", a)
		}
	}
	if u := r.send(c, 2<<20); u.Code != 1 {
		t.Errorf("too large: %+v", u)
	}
	if u := r.send(c, 900<<10); u.Code != 0 {
		t.Errorf("within the budget after broken uploads: %+v", u)
	}
}

// TestAbuseManySmallFiles: each file costs at least 16 KiB.
func TestAbuseManySmallFiles(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Budget = slowBudget })
	c := from(t, "127.0.0.1")
	n := 0
	for n < 1000 && r.send(c, 1).Code == 0 {
		n++
	}
	if want := 1 << 20 / fileCost; n < want-1 || n > want+1 { // a form has more bytes than its file
		t.Errorf("%d files of one byte, want %d", n, want)
	}
}

// TestBudgetOfClientsBehindProxies: the budget is that of the client that a trusted HTTP proxy
// names. Trusted networks have no bound.
func TestBudgetOfClientsBehindProxies(t *testing.T) {
	loopback := origin.Networks{netip.MustParsePrefix("127.0.0.0/8")}
	r := newRigOn(t, func(o *Options) {
		o.Budget = slowBudget
		o.Budget.Trusted = origin.Networks{netip.MustParsePrefix("10.0.0.0/8"),
			netip.MustParsePrefix("127.0.0.0/8")}
	}, web.Options{Forwarders: loopback})
	for i, c := range []struct {
		client string
		code   int
	}{
		{"192.0.2.1", 0}, {"192.0.2.1", 9}, {"192.0.2.2", 0},
		{"2001:db8:0:1::1", 0}, {"2001:db8:0:1::2", 9}, {"2001:db8:0:2::1", 0},
		{"10.0.0.1", 0}, {"10.0.0.1", 0}, {"", 0}, {"", 0},
	} {
		body, kind := form(t, "file", "a.jpg", bytes.Repeat([]byte{'x'}, 600<<10))
		rsp, err := http.DefaultClient.Do(request(r.url, kind, body, c.client))
		if u := r.answerOf(rsp, err); u.Code != c.code {
			t.Errorf("upload %d, of %q: %+v, want code %d", i, c.client, u, c.code)
		}
	}
}

// request returns an upload. A proxy names the client, unless it is empty.
func request(url, kind string, body []byte, client string) *http.Request {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		panic(err) // the caller may be in a goroutine
	}
	req.Header.Set("Content-Type", kind)
	if client != "" {
		req.Header.Set("X-Forwarded-For", client)
	}
	return req
}

// TestAbuseQuota fills the quota. The log warns before, refusals are counted, and downloads
// continue.
func TestAbuseQuota(t *testing.T) {
	var log logged
	r := newRig(t, func(o *Options) {
		folder := o.Store.(*blob.Folder)
		folder.SetQuota(1 << 20)
		if _, err := folder.Count(t.Context()); err != nil {
			t.Fatal(err)
		}
		o.Usage, o.Registerer = folder.Usage, prometheus.NewRegistry()
		o.Log, o.Linger = slog.New(slog.NewTextHandler(&log, nil)), webtest.Patience
	})
	const size = 64 << 10
	var last uploaded
	for i := range 16 {
		if u := r.send(http.DefaultClient, size); u.Code != 0 {
			t.Fatalf("upload %d: %+v", i, u)
		} else {
			last = u
		}
		warned := strings.Contains(log.String(), "90 %")
		if near := (i+1)*size >= 1<<20/10*9; warned != near {
			t.Errorf("after %d bytes of a quota of 1 MiB: warned %t", (i+1)*size, warned)
		}
	}
	for range 2 {
		if u := r.send(http.DefaultClient, 1); u.Code != 9 || u.Text == "" {
			t.Errorf("with the quota used up: %+v", u)
		}
	}
	if n := r.results("quota"); n != 2 || r.files() != 16 {
		t.Errorf("%v refusals counted, %d files", n, r.files())
	}
	if n := strings.Count(log.String(), "90 %"); n != 1 {
		t.Errorf("%d warnings", n)
	}
	if rsp, got := r.get("/" + last.Path); rsp.StatusCode != 200 || len(got) != size {
		t.Errorf("a download: %d, %d bytes", rsp.StatusCode, len(got))
	}
	if err := r.server.opt.Store.Ping(t.Context()); err != nil {
		t.Errorf("the store does not work: %v", err)
	}
}

// logged is a log that a test reads while a server writes it.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestRefusalReachesBlockingClients: a client that sends its whole upload before it reads
// receives the answer to an upload that was refused at its beginning.
func TestRefusalReachesBlockingClients(t *testing.T) {
	b := &blocked{entered: make(chan struct{}), leave: make(chan struct{})}
	r := newRig(t, func(o *Options) {
		b.Store, o.Store, o.MaxUploads, o.MaxSize = o.Store, b, 1, 32<<20
		o.Linger = webtest.Patience
	})
	first := make(chan uploaded)
	go func() { first <- r.upload("a.jpg", []byte("x")) }()
	<-b.entered
	body, kind := form(t, "file", "b.jpg", bytes.Repeat([]byte{'x'}, 24<<20))
	c := webtest.Dial(t, r.web)
	_, err := io.Copy(c, io.MultiReader(bytes.NewReader([]byte(fmt.Sprintf("POST / HTTP/1.1\r\n"+
		"Host: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", kind, len(body)))),
		bytes.NewReader(body)))
	if err != nil {
		t.Errorf("sending: %v", err)
	}
	if a := webtest.Rest(t, c); !busy(a) {
		t.Errorf("answer: %q", a)
	}
	close(b.leave)
	<-first
}

// busy reports whether the answer to an upload has code 9.
func busy(answer string) bool { return bytes.Contains([]byte(answer), []byte(`"error_code":9,`)) }
