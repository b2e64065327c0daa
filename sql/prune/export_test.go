package prune

import "time"

// Fast makes a rule look and pause for tests, by a clock of theirs.
func (o RuleOptions) Fast(clock func() time.Time) RuleOptions {
	o.look, o.again, o.pause, o.clock = time.Millisecond, time.Millisecond, time.Millisecond, clock
	return o
}
