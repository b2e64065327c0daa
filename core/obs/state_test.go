package obs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestStateMetrics has a check in each state. Metrics and report agree.
func TestStateMetrics(t *testing.T) {
	ready := NewReady(0)
	metric := func(want string) {
		t.Helper()
		if err := testutil.CollectAndCompare(ready.StateMetrics(), strings.NewReader(want),
			"teamtalk_ready", "teamtalk_check_state"); err != nil {
			t.Error(err)
		}
	}
	const head = `# HELP teamtalk_ready 1 while the process can do its work, as /readyz says.
# TYPE teamtalk_ready gauge
teamtalk_ready `
	const states = `
# HELP teamtalk_check_state 1 for the present state of a check of /readyz: ok, degraded ` +
		`(the process works, this part does not), failed (the process is not ready).
# TYPE teamtalk_check_state gauge
`
	metric(head + "0\n")
	ready.Set("store", nil)
	ready.Set("replica", Degraded(errors.New("behind")))
	both := `teamtalk_check_state{check="replica",state="degraded"} 1
teamtalk_check_state{check="replica",state="failed"} 0
teamtalk_check_state{check="replica",state="ok"} 0
`
	metric(head + "1" + states + both + `teamtalk_check_state{check="store",state="degraded"} 0
teamtalk_check_state{check="store",state="failed"} 0
teamtalk_check_state{check="store",state="ok"} 1
`)
	ready.Add("store", func(context.Context) error { return errors.New("away") })
	metric(head + "0" + states + both + `teamtalk_check_state{check="store",state="degraded"} 0
teamtalk_check_state{check="store",state="failed"} 1
teamtalk_check_state{check="store",state="ok"} 0
`)
}

// TestDiskMetrics asks the disk of a folder that exists, and of one that does not.
func TestDiskMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(DiskMetrics(map[string]string{"here": t.TempDir(), "gone": "/none/at/all"}))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) == 0 {
		t.Skip("disks of this system are not asked")
	}
	for _, f := range families {
		if m := f.GetMetric(); len(m) != 1 || m[0].GetLabel()[0].GetValue() != "here" ||
			m[0].GetGauge().GetValue() <= 0 {
			t.Errorf("%s: %v", f.GetName(), m)
		}
	}
}

// TestJSONNamesTheUnit logs a duration. JSON has seconds, and text the usual spelling.
func TestJSONNamesTheUnit(t *testing.T) {
	line := func(format string) string {
		var b bytes.Buffer
		log, err := NewLogger(&b, LogOptions{Format: format})
		if err != nil {
			t.Fatal(err)
		}
		log.With("since", time.Minute).Info("text", "took", 1500*time.Millisecond, "count", 2)
		return b.String()
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(line("json")), &got); err != nil {
		t.Fatal(err)
	}
	if got["took_seconds"] != 1.5 || got["since_seconds"] != 60.0 || got["count"] != 2.0 ||
		got["took"] != nil {
		t.Errorf("json: %v", got)
	}
	if got := line("text"); !strings.Contains(got, "since=1m0s took=1.5s count=2") {
		t.Errorf("text: %s", got)
	}
}
