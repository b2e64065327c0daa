//go:build !linux

package proc

import "teamtalk/bench"

// Watcher is empty: this operating system offers no way to watch processes.
type Watcher struct{}

// New checks the options, then fails with ErrUnavailable.
func New(opt Options) (*Watcher, error) {
	if _, err := parseWatch(opt.Watch); err != nil {
		return nil, err
	}
	return nil, ErrUnavailable
}

// AddGenerator fails with ErrUnavailable.
func (*Watcher) AddGenerator(int) error { return ErrUnavailable }

// Notes returns nil.
func (*Watcher) Notes() []string { return nil }

// Begin does nothing.
func (*Watcher) Begin() {}

// End does nothing.
func (*Watcher) End() {}

// Sample fails with ErrUnavailable.
func (*Watcher) Sample() (map[string]bench.Usage, error) { return nil, ErrUnavailable }

// Processes returns nil.
func (*Watcher) Processes() []bench.Process { return nil }

// Load returns the zero value.
func (*Watcher) Load() Load { return Load{} }
