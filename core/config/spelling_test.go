package config

import (
	"strings"
	"testing"
	"time"
)

// TestFilesOfWindows reads files as editors on Windows write them.
func TestFilesOfWindows(t *testing.T) {
	for _, file := range []string{"\ufeff[msg]\r\nrate = 3\r\n", "[msg]\r\nrate = 3",
		"\ufeff# a comment\r\n\r\n[msg] # and more\r\nrate = 3\r\n"} {
		if c, err := load(t, file, nil); err != nil || c.Msg.Rate != 3 {
			t.Errorf("%q: %v", file, err)
		}
	}
}

// TestUnits reads sizes and durations with each unit, and numbers without one, which mean the
// same in every source: bytes, but no duration except 0.
func TestUnits(t *testing.T) {
	quota := func(c *Config) any { return c.File.Quota }
	wait := func(c *Config) any { return c.ShutdownTimeout }
	for _, x := range []struct {
		key, file, text string
		get             func(*Config) any
		want            any // nil: an error
	}{
		{"file.quota", "2097152", "2097152", quota, Size(2 << 20)},
		{"file.quota", `"2097152"`, "2097152B", quota, Size(2 << 20)},
		{"file.quota", `"2048KiB"`, "2048kib", quota, Size(2 << 20)},
		{"file.quota", `"2MiB"`, "2 MiB", quota, Size(2 << 20)},
		{"file.quota", `"3GiB"`, "3GiB", quota, Size(3 << 30)},
		{"file.quota", `"2TiB"`, "2TiB", quota, Size(2 << 40)},
		{"file.quota", `"2000kB"`, "2000kB", quota, Size(2e6)},
		{"file.quota", `"2MB"`, "2MB", quota, Size(2e6)},
		{"file.quota", `"2GB"`, "2GB", quota, Size(2e9)},
		{"file.quota", `"2TB"`, "2TB", quota, Size(2e12)},
		{"file.quota", `"2M"`, "2M", quota, nil},
		{"file.quota", "1.5", "1.5GiB", quota, nil},
		{"shutdown_timeout", "0", "0", wait, time.Duration(0)},
		{"shutdown_timeout", `"0"`, "0s", wait, time.Duration(0)},
		{"shutdown_timeout", `"0.5h"`, "30m", wait, 30 * time.Minute},
		{"shutdown_timeout", `"1m30s"`, "90s", wait, 90 * time.Second},
		{"shutdown_timeout", `"90000ms"`, "90000000us", wait, 90 * time.Second},
		{"shutdown_timeout", `"90000000000ns"`, "1.5m", wait, 90 * time.Second},
		{"shutdown_timeout", "90", "90", wait, nil},
		{"shutdown_timeout", `"1d"`, "1d", wait, nil},
	} {
		env := EnvPrefix + strings.ToUpper(strings.ReplaceAll(x.key, ".", "_")) + "=" + x.text
		flag := "--" + strings.ReplaceAll(x.key, "_", "-") + "=" + x.text
		for source, read := range map[string]func() (*Config, error){
			"file": func() (*Config, error) { return load(t, x.key+" = "+x.file, nil) },
			"env":  func() (*Config, error) { return load(t, "", []string{env}) },
			"flag": func() (*Config, error) { return load(t, "", nil, flag) },
		} {
			c, err := read()
			if (err != nil) != (x.want == nil) {
				t.Errorf("%s = %s %s: %s: error %v", x.key, x.file, x.text, source, err)
			} else if err == nil && x.get(c) != x.want {
				t.Errorf("%s = %s %s: %s: %v, want %v", x.key, x.file, x.text, source, x.get(c),
					x.want)
			}
		}
	}
}
