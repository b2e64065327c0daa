package media

import (
	"strings"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/registry"
)

// node is a registered small file server.
func node(name, url string) registry.Node {
	return registry.Node{Role: "msfs", Name: name, Clients: []string{url}}
}

// TestSoundsOnRegisteredServers: sounds go to the preferred one of the registered small file
// servers, and are fetched from where they are. While none is registered any more they are
// refused, and not put where other db_proxies do not see them.
func TestSoundsOnRegisteredServers(t *testing.T) {
	a, _ := newFiles(t, t.TempDir())
	b, _ := newFiles(t, t.TempDir())
	f := *a
	f.Here, f.URL, f.View = nil, "", registry.NewView()
	sounds, err := f.Sounds()
	if err != nil {
		t.Fatal(err)
	}
	put := func() (string, error) { return sounds.Put(t.Context(), "x.amr", []byte("sound")) }
	if url, err := put(); im.KindOf(err) != im.Unavailable {
		t.Fatalf("before the registry was read: %q, %v", url, err)
	}
	f.View.Update(nil, true)
	var urls []string
	for _, c := range []struct {
		nodes []registry.Node
		at    string // what the URL begins with
	}{
		{nil, ""}, {[]registry.Node{node("b", b.URL), node("a", a.URL)}, a.URL},
		{[]registry.Node{node("b", b.URL)}, b.URL}, {nil, b.URL},
	} {
		f.View.Update(c.nodes, true)
		url, err := put()
		if err != nil || !strings.HasPrefix(url, c.at) || (c.at == "") == strings.Contains(url, "://") {
			t.Errorf("of %d servers: put at %q, %v, want %q", len(c.nodes), url, err, c.at)
		}
		urls = append(urls, url)
	}
	for _, url := range urls {
		if data, err := sounds.Get(t.Context(), url); err != nil || string(data) != "sound" {
			t.Errorf("%s: %q, %v", url, data, err)
		}
	}
	const gone = "http://127.0.0.1:1"
	f.View.Update([]registry.Node{node("a", gone)}, true)
	r, deadline := sounds.(*registered), time.Now().Add(time.Minute)
	for last := ""; last != gone; { // while no message needs it
		r.mu.Lock()
		last = r.urls[0]
		r.mu.Unlock()
		if time.Now().After(deadline) {
			t.Fatalf("the last one is %s", last)
		}
		time.Sleep(time.Millisecond) // polls another goroutine, which sends no event
	}
	f.View.Update(nil, true)
	if url, err := put(); im.KindOf(err) != im.Unavailable {
		t.Errorf("when the last one is gone: %q, %v", url, err)
	}
}

// TestAvatarsOnRegisteredServers: an avatar counts as read on whichever registered server has it.
func TestAvatarsOnRegisteredServers(t *testing.T) {
	a, _ := newFiles(t, t.TempDir())
	b, _ := newFiles(t, t.TempDir())
	url, err := b.Here.Put(t.Context(), "x.jpg", strings.NewReader("picture"))
	if err != nil {
		t.Fatal(err)
	}
	name := url[strings.Index(url, "g0/"):]
	f := *a
	f.Here, f.URL, f.View = nil, "", registry.NewView()
	use, err := f.use()
	if err != nil {
		t.Fatal(err)
	}
	if err := use(t.Context(), name); im.KindOf(err) != im.Unavailable {
		t.Errorf("without a server: %v", err)
	}
	for what, c := range map[string]struct {
		nodes []registry.Node
		kind  im.Kind
	}{
		"on the second": {[]registry.Node{node("a", a.URL), node("b", b.URL)}, 0},
		"nowhere":       {[]registry.Node{node("a", a.URL)}, im.NotFound},
		"one is unreachable": {[]registry.Node{node("a", "http://127.0.0.1:1"), node("b", a.URL)},
			im.Unavailable},
	} {
		f.View.Update(c.nodes, true)
		if err := use(t.Context(), name); err != nil && im.KindOf(err) != c.kind ||
			err == nil && c.kind != 0 {
			t.Errorf("%s: %v", what, err)
		}
	}
}
