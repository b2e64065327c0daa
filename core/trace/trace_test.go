package trace

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector takes spans over HTTP. Answers are the status codes of the first requests; the
// others get 200.
func collector(t *testing.T, answers ...int) (url string, requests chan *tracepb.TracesData) {
	requests = make(chan *tracepb.TracesData, 64)
	codes := make(chan int, len(answers))
	for _, code := range answers {
		codes <- code
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		data := &tracepb.TracesData{}
		if err == nil {
			err = proto.Unmarshal(body, data)
		}
		if err != nil || r.URL.Path != "/v1/traces" ||
			r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s of %q: %v", r.URL, r.Header.Get("Content-Type"), err)
		}
		select {
		case code := <-codes:
			w.WriteHeader(code)
		default:
			requests <- data
		}
	}))
	t.Cleanup(s.Close)
	return s.URL, requests
}

func open(t *testing.T, o Options) *Tracer {
	t.Helper()
	tr, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close(context.Background()) })
	return tr
}

// TestSpansOfSeveralProcesses records the stages of a message at two processes. Their spans have
// one trace and the parents that the stages name.
func TestSpansOfSeveralProcesses(t *testing.T) {
	url, requests := collector(t)
	here := open(t, Options{Endpoint: url, Ratio: 1, Node: "a", Version: "v1"})
	there := open(t, Options{Endpoint: url, Ratio: 1, Node: "b"})
	m, begin := Of(7, 3, false, 12), time.Now()
	for stage := Whole; stage < stages; stage++ {
		tr := here
		if infos[stage].many || infos[stage].role == "dbproxy" {
			tr = there
		}
		tr.Record(Span{Stage: stage, Message: Of(3, 7, false, 12), Begin: begin,
			End: begin.Add(time.Millisecond), Count: int(stage), Instance: 5})
	}
	for _, tr := range []*Tracer{here, there} {
		if err := tr.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	spans, services := map[string]*tracepb.Span{}, map[string]int{}
	for range 2 {
		for _, r := range (<-requests).GetResourceSpans() {
			service := ""
			for _, a := range r.GetResource().GetAttributes() {
				switch a.GetKey() {
				case "service.name", "service.instance.id":
					service += " " + a.GetValue().GetStringValue()
				}
			}
			for _, s := range r.GetScopeSpans()[0].GetSpans() {
				spans[hex.EncodeToString(s.GetSpanId())] = s
				services[strings.TrimSpace(service)]++
			}
		}
	}
	if len(spans) != int(stages)-1 || services["teamtalk-msg a"] != 4 ||
		services["teamtalk-dbproxy b"] != 2 || services["teamtalk-route b"] != 1 ||
		services["teamtalk-msg b"] != 3 {
		t.Errorf("%d spans of %v", len(spans), services)
	}
	want := m.TraceID()
	for _, s := range spans {
		parent := spans[hex.EncodeToString(s.GetParentSpanId())]
		if !bytes.Equal(s.GetTraceId(), want[:]) || (parent == nil) != (s.GetName() == "message") {
			t.Errorf("span %s: trace %x, parent %v", s.GetName(), s.GetTraceId(), parent)
		}
		if d := s.GetEndTimeUnixNano() - s.GetStartTimeUnixNano(); d != 1e6 {
			t.Errorf("span %s lasts %d ns", s.GetName(), d)
		}
	}
}

// TestSampling: processes with one ratio trace the same messages, about as many as the ratio says.
// Messages without an id have no trace.
func TestSampling(t *testing.T) {
	url, _ := collector(t)
	for _, ratio := range []float64{0, 0.01, 0.5, 1} {
		a := open(t, Options{Endpoint: url, Ratio: ratio})
		b := open(t, Options{Endpoint: url, Ratio: ratio})
		const n = 100_000
		taken := 0
		for id := uint32(1); id <= n; id++ {
			_, here := a.sampled(Of(1, 2, false, id))
			if _, there := b.sampled(Of(2, 1, false, id)); here != there {
				t.Fatalf("message %d is traced by one process only", id)
			}
			if here {
				taken++
			}
		}
		if got := float64(taken) / n; got < ratio*0.9 || got > ratio*1.1 {
			t.Errorf("ratio %g traces %g of the messages", ratio, got)
		}
		if _, ok := a.sampled(Of(1, 2, false, 0)); ok {
			t.Error("a message without an id is traced")
		}
	}
	if Of(1, 2, false, 3).TraceID() == Of(1, 2, true, 3).TraceID() {
		t.Error("a message to a user and one to a group have one trace")
	}
}

// TestTraceIDStays pins the id of a trace: servers of other versions compute the same.
func TestTraceIDStays(t *testing.T) {
	id := Of(3, 7, false, 12).TraceID()
	const want = "2e497ba1bb2a3a94492aa2a4ad9b3b95"
	if got := hex.EncodeToString(id[:]); got != want {
		t.Errorf("trace %s, want %s", got, want)
	}
}

// TestFullQueue records more spans than fit while the collector does not answer. The others are
// counted, and Record does not wait.
func TestFullQueue(t *testing.T) {
	block := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-block }))
	defer s.Close()
	tr := open(t, Options{Endpoint: s.URL, Ratio: 1, Queue: 4, Interval: time.Hour})
	for id := range uint32(10) {
		tr.Record(Span{Stage: Whole, Message: Of(1, 2, false, id+1)})
	}
	if n := testutil.ToFloat64(tr.metrics.full); n != 6 {
		t.Errorf("%v spans dropped, want 6", n)
	}
	close(block)
	if err := tr.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := testutil.ToFloat64(tr.metrics.sent); n != 4 {
		t.Errorf("%v spans sent, want 4", n)
	}
}

// TestCloseEndsRequests closes while the collector does not answer, after the time for the end of
// the process is over. The spans are counted as lost.
func TestCloseEndsRequests(t *testing.T) {
	asked, block := make(chan struct{}, 1), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-block
	}))
	defer s.Close()
	defer close(block)
	tr := open(t, Options{Endpoint: s.URL, Ratio: 1, Interval: time.Millisecond,
		Timeout: time.Hour})
	tr.Record(Span{Stage: Whole, Message: Of(1, 2, false, 1)})
	<-asked
	tr.Record(Span{Stage: Whole, Message: Of(1, 2, false, 2)})
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tr.Close(over); err != nil {
		t.Error(err)
	}
	if n := testutil.ToFloat64(tr.metrics.failed); n != 2 {
		t.Errorf("%v spans lost, want 2", n)
	}
}

// TestCollectorRefuses: a request is repeated when the collector asks for it, and otherwise its
// spans are counted and the log has the reason.
func TestCollectorRefuses(t *testing.T) {
	var log bytes.Buffer
	url, requests := collector(t, http.StatusServiceUnavailable, http.StatusOK,
		http.StatusBadRequest)
	tr := open(t, Options{Endpoint: url, Ratio: 1, Interval: time.Millisecond,
		Log: slog.New(slog.NewTextHandler(&log, nil))})
	tr.Record(Span{Stage: Whole, Message: Of(1, 2, false, 1)})
	tr.Record(Span{Stage: Store, Message: Of(1, 2, false, 1)})
	for testutil.ToFloat64(tr.metrics.sent) < 2 {
		time.Sleep(time.Millisecond) // polls the sender, which sends no event
	}
	tr.Record(Span{Stage: Whole, Message: Of(1, 2, false, 2)})
	for testutil.ToFloat64(tr.metrics.failed) < 1 {
		time.Sleep(time.Millisecond) // as above
	}
	if err := tr.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "400 Bad Request") || len(requests) != 0 {
		t.Errorf("log: %s", log.String())
	}
}

// TestRedirectionIsNoCollector: spans that are sent to an address that redirects are lost, and the
// log has the reason.
func TestRedirectionIsNoCollector(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/traces" {
			http.Redirect(w, r, "/login", http.StatusFound)
		}
	}))
	defer s.Close()
	var log bytes.Buffer
	tr := open(t, Options{Endpoint: s.URL, Ratio: 1, Interval: time.Millisecond,
		Log: slog.New(slog.NewTextHandler(&log, nil))})
	tr.Record(Span{Stage: Whole, Message: Of(1, 2, false, 1)})
	if err := tr.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := testutil.ToFloat64(tr.metrics.failed); n != 1 {
		t.Errorf("%v spans lost, want 1", n)
	}
	if !strings.Contains(log.String(), "302 Found") {
		t.Errorf("log: %s", log.String())
	}
}

func TestNilTracer(t *testing.T) {
	var tr *Tracer
	tr.Record(Span{Stage: Whole, Message: Of(1, 2, false, 1)})
	if tr.On() || tr.Close(t.Context()) != nil {
		t.Error("a nil Tracer is on, or cannot be closed")
	}
}

func TestNewRefuses(t *testing.T) {
	for _, o := range []Options{{Endpoint: "collector:4318", Ratio: 1}, {Endpoint: "http://"},
		{Endpoint: "http://a", Ratio: -1}, {Endpoint: "http://a", Ratio: 1.1}} {
		if tr, err := New(o); err == nil {
			_ = tr.Close(t.Context())
			t.Errorf("New accepts %+v", o)
		}
	}
}
