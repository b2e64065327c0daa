package config

import (
	"slices"
	"testing"
)

// TestReload: a running server takes over the values that reload, and names the settings that
// need a restart. Neither the settings in use nor the new ones change.
func TestReload(t *testing.T) {
	running, next := Default(), Default()
	next.Msg.Rate, next.Msg.Listen, next.TLS.Certificate = 7, ":9000", "new.pem"
	next.MSFS.Quota = 1 << 30
	next.origin["msg.rate"] = "file:3"
	merged, changed, restart := running.Reload(next, "msfs.quota")
	if want := []string{"msg.rate"}; !slices.Equal(changed, want) {
		t.Errorf("changed: %v, want %v", changed, want)
	}
	want := []string{"msg.listen", "msfs.quota", "tls.certificate"}
	if !slices.Equal(restart, want) {
		t.Errorf("need a restart: %v, want %v", restart, want)
	}
	if merged.Msg.Rate != 7 || merged.Msg.Listen != ":8000" || merged.TLS.Certificate != "" ||
		merged.MSFS.Quota != 0 || merged.Origin("msg.rate") != "file:3" {
		t.Errorf("merged: %v %q %q %v from %q", merged.Msg.Rate, merged.Msg.Listen,
			merged.TLS.Certificate, merged.MSFS.Quota, merged.Origin("msg.rate"))
	}
	if running.Msg.Rate != 20 || running.Origin("msg.rate") != fromDefault {
		t.Errorf("the settings in use changed: %v from %q", running.Msg.Rate,
			running.Origin("msg.rate"))
	}
	if _, changed, restart = merged.Reload(merged); changed != nil || restart != nil {
		t.Errorf("the same settings: changed %v, need a restart %v", changed, restart)
	}
}

// TestReloadsAreSettings: each key in the lists of settings that reload is one of a setting.
func TestReloadsAreSettings(t *testing.T) {
	known := map[string]bool{}
	for _, s := range Settings() {
		known[s.Key] = true
	}
	for _, key := range slices.Concat(valuesReload, filesReload) {
		if !known[key] {
			t.Errorf("%s is no setting", key)
		}
	}
}
