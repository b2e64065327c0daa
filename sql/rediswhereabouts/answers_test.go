package rediswhereabouts

import (
	"strings"
	"testing"

	"teamtalk/core/registry"
	"teamtalk/core/whereabouts"
)

func TestResult(t *testing.T) {
	var refused Refused
	r := resultOf(node, Key(5), []string{"ok", "1764000000000000", "7:17a", "1", "c", "1:1", "b",
		"2:17", "d", "nonsense", "#", "9"}, &refused)
	if r.Err != nil || r.Version != 1764000000000000 || len(r.Before) != 1 ||
		len(r.Others) != 2 || r.Others[0].Name != "b" {
		t.Errorf("%+v", r)
	}
	if refused.Long != 1 || refused.Malformed != 1 || refused.Why == nil {
		t.Errorf("%+v", refused)
	}
	for what, answer := range map[string][]string{
		"empty": nil, "word": {"yes", "1", "", "0"}, "short": {"ok", "1", ""},
		"odd": {"ok", "1", "", "0", "a"}, "version": {"ok", "-1", "", "0"},
		"version 0": {"ok", "0", "", "0"}, "long": {"ok", "1", "", "many"},
		"replaced": {"replaced", "by"}, "full": {"full", "5000"},
		"too many": append([]string{"ok", "1", "", "0"}, make([]string, 4*maxFields)...),
	} {
		if r := resultOf(node, Key(5), answer, &refused); r.Err == nil {
			t.Errorf("%s: accepted as %+v", what, r)
		}
	}
}

// FuzzResult reads any answer. Entries that are accepted keep the bounds.
func FuzzResult(f *testing.F) {
	f.Add("ok\x001764000000000000\x007:17a\x001\x00b\x002:17")
	f.Add("full\x005000")
	f.Add("replaced\x008")
	f.Fuzz(func(t *testing.T, answer string) {
		var refused Refused
		r := resultOf(node, Key(5), strings.Split(answer, "\x00"), &refused)
		if r.Err != nil && (r.Before != nil || r.Others != nil || r.Version != 0) {
			t.Errorf("%+v", r)
		}
		if len(r.Before) > whereabouts.MaxDevices {
			t.Errorf("before: %v", r.Before)
		}
		last := ""
		for _, e := range r.Others {
			if registry.CheckName(e.Name) != nil || e.Name <= last || len(e.Devices) == 0 ||
				len(e.Devices) > whereabouts.MaxDevices {
				t.Errorf("%+v behind %q", e, last)
			}
			last = e.Name
		}
	})
}
