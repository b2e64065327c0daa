package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// IdleOptions sets up Idle.
type IdleOptions struct {
	Target
	// Connections is how many users log in, one connection each. Default 1,000.
	Connections int
	// Pid is the message server's process, whose memory is read from /proc before and after. 0: memory is not measured.
	Pid int
	// Settle is how long to wait after the last login before memory is read. Default 5 s.
	Settle time.Duration
	// Hold is how much longer the connections stay, with a heartbeat every 30 s. Default 0.
	Hold time.Duration
}

// IdleReport is what Idle found.
type IdleReport struct {
	Connections   int     `json:"connections"`
	LoginSeconds  float64 `json:"login_seconds"`
	LoginsPerSec  float64 `json:"logins_per_second"`
	RSSBefore     int64   `json:"rss_before_bytes,omitempty"`
	RSSAfter      int64   `json:"rss_after_bytes,omitempty"`
	BytesPerConn  float64 `json:"rss_bytes_per_connection,omitempty"`
	StillOpen     int     `json:"still_open"`
	HeartbeatsBad int     `json:"heartbeats_not_echoed"`
}

// Idle logs in many phones and holds them.
func Idle(ctx context.Context, opt IdleOptions) (*IdleReport, error) {
	if err := opt.defaults(); err != nil {
		return nil, err
	}
	if opt.Connections <= 0 {
		opt.Connections = 1000
	}
	if opt.Settle <= 0 {
		opt.Settle = 5 * time.Second
	}
	r := &IdleReport{Connections: opt.Connections}
	var err error
	if opt.Pid != 0 {
		if r.RSSBefore, err = rss(opt.Pid); err != nil {
			return nil, err
		}
	}
	start := time.Now()
	conns, err := opt.login(ctx, 1, opt.Connections, pb.ClientType_CLIENT_TYPE_ANDROID)
	if err != nil {
		return nil, err
	}
	defer closeAll(conns)
	r.LoginSeconds = time.Since(start).Seconds()
	r.LoginsPerSec = float64(opt.Connections) / r.LoginSeconds
	if err := pause(ctx, opt.Settle); err != nil {
		return nil, err
	}
	if opt.Pid != 0 {
		if r.RSSAfter, err = rss(opt.Pid); err != nil {
			return nil, err
		}
		r.BytesPerConn = float64(r.RSSAfter-r.RSSBefore) / float64(opt.Connections)
	}
	for held := time.Duration(0); held < opt.Hold; held += 30 * time.Second {
		if err := pause(ctx, min(30*time.Second, opt.Hold-held)); err != nil {
			return nil, err
		}
		_, bad := beat(conns, opt.Timeout)
		r.HeartbeatsBad += bad
	}
	open, bad := beat(conns, opt.Timeout)
	r.StillOpen = open
	r.HeartbeatsBad += bad
	return r, nil
}

// beat sends every connection a heartbeat and waits for its echo.
func beat(conns []*conn, timeout time.Duration) (open, bad int) {
	frame := pdu.AppendHeader(nil, pb.CmdHeartBeat, 9)
	for _, c := range conns {
		if _, err := c.Write(frame); err != nil {
			bad++
			continue
		}
		_ = c.SetReadDeadline(time.Now().Add(timeout))
		ok := false
		for {
			h, _, err := c.next()
			if err != nil {
				break
			}
			if h.Command == pb.CmdHeartBeat {
				ok = true
				break
			}
		}
		if ok {
			open++
		} else {
			bad++
		}
	}
	return open, bad
}

// rss is the resident memory of a process, in bytes.
func rss(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0, fmt.Errorf("read memory of process %d: unexpected %q", pid, b)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	return pages * int64(os.Getpagesize()), nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Print writes the report for people.
func (r *IdleReport) Print(w io.Writer) {
	fmt.Fprintf(w, "%d connections logged in within %.1f s (%.0f/s)\n", r.Connections, r.LoginSeconds, r.LoginsPerSec)
	if r.RSSAfter != 0 {
		fmt.Fprintf(w, "resident memory %.1f MiB before, %.1f MiB after: %.2f kB a connection\n",
			float64(r.RSSBefore)/(1<<20), float64(r.RSSAfter)/(1<<20), r.BytesPerConn/1000)
	}
	fmt.Fprintf(w, "%d still open at the end, %d heartbeats not echoed\n", r.StillOpen, r.HeartbeatsBad)
}
