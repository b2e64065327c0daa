package admission

import "sync"

// pace bounds how many of the logins that wait are checked again. All of them at once would
// be a storm that feeds itself: a db_proxy that derives 77 passwords a second refuses all
// others as busy, and each of these costs it a look-up, ten times a second. So from the first
// login that db_proxy could not check, each one that it could check lets two others try:
// places at db_proxy are taken as they become free, and after an outage the number doubles
// with each tick. Any goroutine.
type pace struct {
	mu sync.Mutex
	// limited: db_proxy could not check a login, and not enough others since.
	limited bool
	credit  int // logins that may try
}

// checked notes an answer of db_proxy. ok: it could check the login.
func (p *pace) checked(ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !ok:
		p.limited, p.credit = true, 0
	case p.limited:
		p.credit += 2
		p.limited = p.credit < maxResumed
	}
}

// slow reports whether db_proxy checks logins more slowly than they arrive, or not at all.
func (p *pace) slow() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limited
}

// take returns how many of the waiting logins of a loop may try in this tick. While db_proxy
// checks none, that is one if probe is true. A loop gets half of those that may try, so that
// the other loops find some.
func (p *pace) take(waiting int, probe bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.limited:
		return min(waiting, maxResumed)
	case p.credit == 0 && probe:
		return min(waiting, 1)
	}
	n := min(waiting, (p.credit+1)/2)
	p.credit -= n
	return n
}
