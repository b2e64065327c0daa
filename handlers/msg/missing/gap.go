package missing

import "time"

// Gap is the wait of a message for those before it: when db_proxy is asked for them, and
// when the wait is over. The zero value is ready.
type Gap struct {
	// Over says that what was not found does not exist.
	Over bool

	open bool // db_proxy is being asked
	next time.Time
}

// Next returns whether db_proxy is to be asked now, and otherwise when to look again. When
// that is not after now, the wait is over. came is when the message arrived.
func (g *Gap) Next(came, now time.Time) (ask bool, again time.Time) {
	end := came.Add(GiveUp)
	if g.next.IsZero() {
		g.next = came.Add(AskAfter)
	}
	switch {
	case g.open || !now.Before(end):
		return false, end
	case now.Before(g.next):
		return false, g.until(end)
	}
	return true, end
}

func (g *Gap) until(end time.Time) time.Time {
	if g.next.Before(end) {
		return g.next
	}
	return end
}

// Asked records whether db_proxy is being asked, and returns when to look again.
func (g *Gap) Asked(came, now time.Time, asked bool) (again time.Time) {
	end := came.Add(GiveUp)
	if g.open = asked; asked {
		return end
	}
	g.next = now.Add(AskAgain)
	return g.until(end)
}

// Answered records the answer of db_proxy, or an error.
func (g *Gap) Answered(came, now time.Time, err error) {
	g.open = false
	if err != nil {
		g.next = now.Add(AskAgain)
		return
	}
	g.next = came.Add(Wait)
	g.Over = !now.Before(g.next)
}
