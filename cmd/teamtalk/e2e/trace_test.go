//go:build linux

package e2e

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector takes the spans of all processes.
type collector struct {
	mu    sync.Mutex
	spans map[string]map[string]tracedSpan // by trace and span id
	wrong []string
}

// tracedSpan is a span with the server that recorded it.
type tracedSpan struct {
	service, parent, name string
}

// ServeHTTP takes a request as OpenTelemetry defines it.
func (c *collector) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	data := &tracepb.TracesData{}
	if err == nil {
		err = proto.Unmarshal(body, data)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || r.URL.Path != "/v1/traces" {
		c.wrong = append(c.wrong, fmt.Sprint(r.URL, " ", err))
		return
	}
	for _, rs := range data.GetResourceSpans() {
		service := ""
		for _, a := range rs.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = strings.TrimPrefix(a.GetValue().GetStringValue(), "teamtalk-")
			}
		}
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				trace := hex.EncodeToString(s.GetTraceId())
				if c.spans[trace] == nil {
					c.spans[trace] = map[string]tracedSpan{}
				}
				c.spans[trace][hex.EncodeToString(s.GetSpanId())] = tracedSpan{service,
					hex.EncodeToString(s.GetParentSpanId()), s.GetName()}
			}
		}
	}
}

// tree returns the spans of a trace, each as its parent and itself, and whether all parents have
// arrived.
func (c *collector) tree(trace string) (all []string, whole bool) {
	whole = true
	for _, s := range c.spans[trace] {
		parent, ok := c.spans[trace][s.parent]
		whole = whole && (ok || s.parent == "")
		all = append(all, parent.name+" > "+s.service+" "+s.name)
	}
	slices.Sort(all)
	return all, whole
}

// TestTrace sends one message from alice to bob, whose device acknowledges it. The collector gets
// one trace with the spans of all servers on the way.
func TestTrace(t *testing.T) {
	t.Parallel()
	inOne := []string{" > msg message", "message > msg store", "store > dbproxy commit",
		"store > dbproxy queue"}
	apart := append(slices.Clone(inOne), "message > msg forward", "forward > msg deliver",
		"forward > msg device")
	for _, c := range []struct {
		name   string
		deploy func(testing.TB, settings) *deployment
		mesh   bool
		want   []string
	}{
		{allInOne, deployAllInOne, false,
			append(slices.Clone(inOne), "message > msg deliver", "message > msg device")},
		{separate, deploySeparate, false, append(slices.Clone(apart), "forward > route route")},
		{"mesh", deploySeparate, true, apart},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			spans := &collector{spans: map[string]map[string]tracedSpan{}}
			s := httptest.NewServer(spans)
			t.Cleanup(s.Close)
			sys := c.deploy(t, settings{users: 2, mesh: c.mesh,
				flags: []string{"--trace.endpoint", s.URL, "--trace.ratio", "1"}})
			a, alice := loggedIn(t, sys.msgAddr[0], "u00001", android)
			b, bob := loggedIn(t, sys.msgAddr[1], "u00002", android)
			a.send(2, text(bob, "hello"))
			b.sendAck(b.receiveText(alice, bob, 1, "hello"))
			a.acked(2, bob)
			spans.await(t, c.want)
		})
	}
}

// await waits until the collector has one trace, whose spans are those wanted.
func (c *collector) await(t *testing.T, want []string) {
	t.Helper()
	var got []string
	until(t, "the spans of the message", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for trace := range c.spans {
			var whole bool
			if got, whole = c.tree(trace); whole && len(got) >= len(want) {
				return true
			}
		}
		return len(c.wrong) > 0
	})
	slices.Sort(want)
	equal(t, "the trace", got, want)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.spans) != 1 || len(c.wrong) != 0 {
		t.Errorf("%d traces, wrong requests: %q", len(c.spans), c.wrong)
	}
}
