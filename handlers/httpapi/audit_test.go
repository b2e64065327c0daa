package httpapi

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"teamtalk/core/audit"
)

// TestStrangersInAudit: calls and registrations that are refused do not fill the audit log, and do
// not hide the calls of others.
func TestStrangersInAudit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit")
	log, err := audit.Open(audit.Options{File: file, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(o *Options) { o.Audit, o.Register = log, &Register{Open: true} })
	for range triesAtOnce {
		r.call("KickUser", `{"app_key":"wrong"}`)
		r.call("Register", `{"name":""}`)
	}
	r.want(0, "KickUser", `{KEY,"user_id":1}`)
	if err := log.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	own := bytes.Count(data, []byte(`"by":"app `))
	if lines := bytes.Count(data, []byte("\n")); own != 1 || lines != triesAtOnce+1 {
		t.Errorf("%d lines, %d of them of the app, want %d and 1:\n%s", lines, own, triesAtOnce+1,
			data)
	}
}
