// Package monotest steps the wall clock in tests.
package monotest

import (
	"time"

	"teamtalk/core/mono"
)

// Step returns t as a clock reads it after its wall time was stepped by d, as mono.Step
// does.
func Step(t time.Time, d time.Duration) time.Time { return mono.Step(t, d) }
