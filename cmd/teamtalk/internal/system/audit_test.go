package system

import (
	"os"
	"strings"
	"testing"
	"time"

	"teamtalk/core/audit"
)

// TestReadyzShowsTheAuditLog writes to a full disk: the process stays ready, and /readyz and a
// metric say that lines are lost.
func TestReadyzShowsTheAuditLog(t *testing.T) {
	const full = "/dev/full"
	if _, err := os.Stat(full); err != nil {
		t.Skip(err)
	}
	s, _ := startRoles(t, "route", map[string]string{"audit.file": full})
	if ok, text := isReady(t, s); !ok || !strings.Contains(text, `"audit log":"ok"`) {
		t.Fatalf("before the first event: %s", text)
	}
	s.audit.Record(audit.Event{Kind: audit.Command, Result: audit.OK})
	for {
		ok, text := isReady(t, s)
		if !ok {
			t.Fatalf("not ready: %s", text)
		}
		if strings.Contains(text, `"audit log":"degraded: file: `) &&
			strings.Contains(text, "no space left on device") {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal(text)
		}
		time.Sleep(time.Millisecond) // no event reports the failure
	}
	all, err := s.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		if family.GetName() == "teamtalk_audit_failing" {
			if v := family.GetMetric()[0].GetGauge().GetValue(); v != 1 {
				t.Errorf("teamtalk_audit_failing is %v", v)
			}
			return
		}
	}
	t.Error("no metric teamtalk_audit_failing")
}
