package main

import (
	"strings"
	"testing"
	"time"

	"teamtalk/core/client"
)

// A transfer is as fast as it is from its first bytes on, however long it waited to be taken.
func TestPace(t *testing.T) {
	at := time.Unix(1_000_000, 0)
	p := pace{since: at}
	for _, c := range []struct {
		after   time.Duration
		carried int64
		want    float64
	}{{time.Second, 0, 0}, {time.Minute, 0, 0}, {time.Minute, 0, 0}, {500 * time.Millisecond, 1000, 2000}, {500 * time.Millisecond, 3000, 3000}, {2 * time.Second, 3000, 1000}} {
		at = at.Add(c.after)
		if got := p.rate(at, c.carried); got != c.want {
			t.Errorf("%d bytes %s later: %v bytes a second, want %v", c.carried, c.after, got, c.want)
		}
	}
	if got := (&pace{since: at}).rate(at, 5); got != 0 {
		t.Errorf("bytes in no time: %v bytes a second", got)
	}
}

// A bar says how its transfer is stopped while it can be, and nothing of it is left over when it has ended.
func TestBar(t *testing.T) {
	e := fileEntry{n: 12, mine: true, state: fileSending, file: client.File{Size: 1000, Online: true}}
	for _, c := range []struct {
		state string
		moved int64
		rate  float64
		want  string
	}{
		{fileSending, 0, 0, "[....................]   0%  not taken yet  /cancel 12 stops it"},
		{fileSending, 500, 999_900_000_000, "[##########..........]  50%  999.9 GB/s  /cancel 12 stops it"},
		{fileFetching, 500, 100, "[##########..........]  50%  100 bytes/s  /cancel 12 stops it"},
		{fileDone, 1000, 1e6, "[####################] 100%  1.0 MB/s"},
		{fileCancelled, 0, 0, "[....................]   0%"},
	} {
		e.state, e.moved, e.rate = c.state, c.moved, c.rate
		got := e.bar()
		if strings.TrimRight(got, " ") != c.want || len(got) != barWidth || strings.Contains(got, "m") {
			t.Errorf("%s: %q, want %q in %d columns", c.state, got, c.want, barWidth)
		}
	}
}
