//go:build !linux

package proc

import "teamtalk/bench"

// Watcher watches processes; on this operating system there is none.
type Watcher struct{}

// New fails with ErrUnavailable, or says what is wrong with the options.
func New(opt Options) (*Watcher, error) {
	if _, err := parseWatch(opt.Watch); err != nil {
		return nil, err
	}
	return nil, ErrUnavailable
}

// AddGenerator does nothing here.
func (*Watcher) AddGenerator(int) error { return ErrUnavailable }

// Notes returns nothing here.
func (*Watcher) Notes() []string { return nil }

// Begin does nothing here.
func (*Watcher) Begin() {}

// End does nothing here.
func (*Watcher) End() {}

// Sample fails here.
func (*Watcher) Sample() (map[string]bench.Usage, error) { return nil, ErrUnavailable }

// Processes returns nothing here.
func (*Watcher) Processes() []bench.Process { return nil }

// Load returns nothing here.
func (*Watcher) Load() Load { return Load{} }
