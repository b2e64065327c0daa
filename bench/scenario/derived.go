package scenario

import (
	"runtime"
	"time"
)

// Normalize sets the values that follow from other settings.
func (s *Scenario) Normalize() {
	if len(s.IDs) > 0 {
		s.Groups = len(s.IDs)
	}
	switch {
	case s.Kind == KindIdle:
		s.Warmup, s.Duration = 0, max(s.Hold, Duration(2*time.Second))
	case s.Kind == KindFile && s.ClientType().IsMobile():
		s.Client = "windows" // the server does not notify phones of files
	case s.Kind == KindMixed && s.Rate == 0:
		s.Rate = float64(s.Population) / 5
	case s.Kind == KindConnect && s.After == "stay":
		s.Warmup = 0 // the first logins are part of the scenario
	}
}

// Played returns the kind of the work: for a soak, the kind that it repeats.
func (s *Scenario) Played() string {
	if s.Kind == KindSoak {
		return s.Of
	}
	return s.Kind
}

// Ceilings returns the total that an echo of a scenario's frames bounds, and the total
// that storing its rows bounds: "acked" or "delivered". It returns false for scenarios
// without texts.
func (s *Scenario) Ceilings() (echo, stored string, ok bool) {
	switch s.Played() {
	case KindGroup:
		return "delivered", "acked", true
	case KindSingle, KindMixed:
		return "acked", "acked", true
	}
	return "", "", false
}

// ToGroups reports whether all texts of the scenario are sent to groups.
func (s *Scenario) ToGroups() bool { return s.Played() == KindGroup }

// GeneratorLoops returns the number of event loops of a generator of the scenario.
func (s *Scenario) GeneratorLoops() int {
	if s.Loops > 0 {
		return s.Loops
	}
	return max(1, runtime.NumCPU()/2)
}

// MemberOf returns the user that is member j of group g. In the mixed scenario groups
// overlap.
func (s *Scenario) MemberOf(g, j int) int {
	i := g*s.Members + j
	if s.Kind == KindMixed {
		i %= s.Population
	}
	return i
}

// Owner returns the generator whose client is member j of group g. Groups stay within one
// generator when there are enough of them, and do not overlap.
func (s *Scenario) Owner(g, j, parts int) int {
	if s.Kind == KindMixed {
		return s.MemberOf(g, j) % parts
	}
	if s.Groups >= parts {
		return g % parts
	}
	return j % parts
}
