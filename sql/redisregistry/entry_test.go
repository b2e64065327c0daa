package redisregistry

import (
	"strings"
	"testing"
	"time"

	"teamtalk/core/registry"
)

// answerOf returns an answer of the script read with one node.
func answerOf(t testing.TB) []string {
	t.Helper()
	record, err := registry.Encode(msg("a"))
	if err != nil {
		t.Fatal(err)
	}
	return []string{"ok", "70000", "1764000000500", "1", "msg/a",
		"75000 7 0123456789abcdef 1764000000000 " + record}
}

func TestParse(t *testing.T) {
	c, err := parse(answerOf(t))
	if err != nil || len(c.entries) != 1 || c.clock != 70*time.Second || c.long != 1 {
		t.Fatal(c, err)
	}
	e := c.entries[0]
	if e.Name != "a" || e.Epoch != 7 || e.Left != 5*time.Second || e.Age != time.Second/2 {
		t.Errorf("%+v", e)
	}
	if why := c.refusal(); why == nil || !strings.Contains(why.Error(), "more than 1120") {
		t.Errorf("the reason for a value that is too long: %v", why)
	}
	for what, change := range map[string]func(a []string) []string{
		"empty":        func([]string) []string { return nil },
		"no time":      func(a []string) []string { return a[:2] },
		"odd":          func(a []string) []string { return a[:5] },
		"clock":        func(a []string) []string { a[1] = "-1"; return a },
		"huge time":    func(a []string) []string { a[2] = "9223372036854775807"; return a },
		"number":       func(a []string) []string { a[3] = "many"; return a },
		"word":         func(a []string) []string { a[0] = "yes"; return a },
		"full":         func([]string) []string { return []string{"full", "5000"} },
		"too many":     func(a []string) []string { return append(a, make([]string, 20000)...) },
		"unknown full": func([]string) []string { return []string{"full", "5", "6"} },
	} {
		if c, err := parse(change(answerOf(t))); err == nil {
			t.Errorf("%s: accepted as %+v", what, c)
		}
	}
	for what, value := range map[string]string{
		"epoch 0": "75000 0 ab 1764000000000 ", "epoch": "75000 1000000000000000 ab 1764000000000 ",
		"end": "x 7 ab 1764000000000 ", "time": "75000 7 ab -1 ", "no record": "75000 7 ab 1",
		"long": "75000 7 " + strings.Repeat("a", maxValue) + " 1764000000000 ",
	} {
		a := answerOf(t)
		_, record, _ := strings.Cut(a[5], "{")
		a[5] = value + "{" + record
		c, err := parse(a)
		if err != nil || len(c.entries) != 0 || c.malformed != 1 || c.why == nil {
			t.Errorf("%s: %+v, %v", what, c, err)
		}
	}
}

// FuzzParse parses any answer. Entries that are accepted keep the bounds.
func FuzzParse(f *testing.F) {
	f.Add(strings.Join(answerOf(f), "\x00"))
	f.Add("full\x005000")
	f.Fuzz(func(t *testing.T, answer string) {
		c, err := parse(strings.Split(answer, "\x00"))
		if err != nil && c.entries != nil {
			t.Errorf("entries with the error %v", err)
		}
		for _, e := range c.entries {
			if registry.CheckName(e.Name) != nil || e.Epoch == 0 || e.Epoch > registry.MaxEpoch ||
				e.Age < 0 || e.Left < 0 {
				t.Errorf("accepted %+v", e)
			}
		}
	})
}
