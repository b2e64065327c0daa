package benchcmd

import (
	"errors"
	"time"

	"teamtalk/bench/proc"
)

// usage is the processor time of processes while a ceiling is measured on a schedule.
// Without a schedule, and on systems without process statistics, it has none.
type usage struct{ watcher *proc.Watcher }

// watchPaced watches this process and those that listen on addresses of this machine.
func watchPaced(rate float64, addrs []string) (*usage, error) {
	if rate <= 0 {
		return &usage{}, nil
	}
	w, err := proc.New(proc.Options{Addrs: addrs})
	if errors.Is(err, proc.ErrUnavailable) {
		return &usage{}, nil
	}
	return &usage{w}, err
}

// count sets the functions between which the time counts.
func (u *usage) count(begin, end *func()) {
	if u.watcher != nil {
		*begin, *end = u.watcher.Begin, u.watcher.End
	}
}

// each returns the processor time of each process for one of so many a second, in µs. It
// includes this process if it does a part of the work, and does not only offer it.
func (u *usage) each(rate float64, own bool) map[string]float64 {
	if u.watcher == nil {
		return nil
	}
	times := map[string]float64{}
	for _, p := range u.watcher.Processes() {
		if p.PID != 0 && (own || !p.Generator) {
			times[p.Name] = p.CPU * 1e6 / rate
		}
	}
	return times
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
