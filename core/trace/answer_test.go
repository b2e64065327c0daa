package trace

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/encoding/protowire"
)

// answerOf encodes the answer of a collector.
func answerOf(rejected int64, reason string) []byte {
	inner := protowire.AppendTag(nil, rejectedSpans, protowire.VarintType)
	inner = protowire.AppendVarint(inner, uint64(rejected))
	inner = protowire.AppendTag(inner, errorMessage, protowire.BytesType)
	inner = protowire.AppendString(inner, reason)
	answer := protowire.AppendTag(nil, partialSuccess, protowire.BytesType)
	return protowire.AppendBytes(answer, inner)
}

func TestReadAnswer(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer []byte
		want   int
		reason string
	}{
		{"all accepted", nil, 0, ""},
		{"a warning alone", answerOf(0, "soon"), 0, ""},
		{"some rejected", answerOf(3, "too\nold"), 3, `"too\nold"`},
		{"a long reason", answerOf(1, strings.Repeat("x", 1000)), 1, `"xxx`},
		{"below zero", answerOf(-3, "?"), 0, ""},
		{"a text", []byte("OK, thank you"), 0, ""},
		{"cut", answerOf(3, "too old")[:6], 0, ""},
	} {
		n, err := readAnswer(c.answer)
		if n != c.want || (err == nil) != (n == 0) ||
			err != nil && (!strings.HasPrefix(err.Error(), c.reason) || len(err.Error()) > 210) {
			t.Errorf("%s: %d, %v, want %d, %s", c.name, n, err, c.want, c.reason)
		}
	}
}

// TestCollectorRejectsSome counts the spans of a request that a collector did not accept.
func TestCollectorRejectsSome(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(answerOf(1, "the span is too old"))
	}))
	defer s.Close()
	var log bytes.Buffer
	tr := open(t, Options{Endpoint: s.URL, Ratio: 1, Interval: time.Hour,
		Log: slog.New(slog.NewTextHandler(&log, nil))})
	for id := range uint32(3) {
		tr.Record(Span{Stage: Whole, Message: Of(1, 2, false, id+1)})
	}
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sent, rejected := testutil.ToFloat64(tr.metrics.sent), testutil.ToFloat64(tr.metrics.rejected)
	if sent != 2 || rejected != 1 || testutil.ToFloat64(tr.metrics.failed) != 0 {
		t.Errorf("%v spans are sent and %v rejected, want 2 and 1", sent, rejected)
	}
	if !strings.Contains(log.String(), `spans=1 of=3`) ||
		!strings.Contains(log.String(), "the span is too old") {
		t.Errorf("log: %s", log.String())
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add(answerOf(3, "too old"))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		if n, err := readAnswer(answer); n < 0 || (err == nil) != (n == 0) {
			t.Errorf("%d, %v", n, err)
		}
	})
}
