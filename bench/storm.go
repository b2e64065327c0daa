package bench

// storm plays a login storm: users log in one after another, and many at once.
type storm struct{}

func (storm) cast(p *local) {
	s := p.scenario
	for i := p.Part; i < s.Online+s.Connections; i += p.Parts {
		p.addClient(i, i/p.Parts)
	}
}

// needs reports whether a client is one of those that are online before.
func (storm) needs(c *client) bool { return c.index < c.w.part.scenario.Online }

func (storm) begin(w *worker, _ []uint32) {
	s := w.part.scenario
	l := &logins{rota: rota{w: w}}
	w.play = l
	for _, c := range w.clients {
		if c.index >= s.Online {
			l.free = append(l.free, c)
		}
	}
	l.all = len(l.free)
	if l.all == 0 {
		return
	}
	if s.Rate == 0 {
		w.schedule(w.plan.Start, func(now int64) int64 {
			for range max(1, s.Parallel/len(w.part.workers)/w.part.Parts) {
				l.start(now)
			}
			return 0
		})
		return
	}
	l.pace = newPace(s.Rate*float64(l.all)/float64(s.Connections), w.phase(),
		s.Arrivals == "poisson")
	l.step()
	w.schedule(l.due, l.fire)
}

// done reports, for runs in which all users stay, whether all have logged in.
func (storm) done(w *worker) bool {
	l, ok := w.play.(*logins)
	return ok && w.part.scenario.After == "stay" && l.ended == l.all
}

// logins is a worker's share of the logins.
type logins struct {
	bystander
	rota
	all   int
	ended int // logins that ended, with success or not; used with "stay"
	pace  pace
	due   int64
}

func (l *logins) step() { l.due = l.w.plan.Start + l.pace.step(l.w.rng.ExpFloat64) }

// fire starts the logins that are due.
func (l *logins) fire(now int64) int64 {
	for n := 0; l.due <= now && n < perFire; n++ {
		if l.due >= l.w.plan.End || l.stays() && l.head == len(l.free) {
			return 0
		}
		if now-l.due > lateness {
			l.w.checks.Behind++
		}
		l.begin(l.due)
		l.step()
	}
	return l.due
}

func (l *logins) stays() bool { return l.w.part.scenario.After == "stay" }

func (l *logins) loggedIn(c *client) {
	l.w.waiting--
	switch l.w.part.scenario.After {
	case "stay":
		l.ended++
		l.next()
	case "close":
		c.hangUp()
		l.release(c)
	default:
		l.w.waiting++
		c.logout()
	}
}

func (l *logins) gone(c *client, err error) {
	if c.index < l.w.part.scenario.Online {
		return
	}
	if l.stays() {
		if c.id == 0 {
			l.w.waiting--
			l.ended++
			l.next()
		}
		return
	}
	l.w.waiting--
	if err == nil {
		l.release(c)
		return
	}
	l.w.loop.At(l.w.loop.Now()+retryAfter, func(int64) int64 { l.release(c); return 0 })
}

// retryAfter is how long a user stays away after a failed login, in nanoseconds. It
// bounds the attempts while a server is down.
const retryAfter = 100e6

func (l *logins) over() {
	l.w.unfinished()
	l.rota.over()
}

// release returns a user to the rota and starts the next login.
func (l *logins) release(c *client) {
	if !l.rota.release(c) {
		l.next()
	}
}

// next starts the next login in runs without a schedule.
func (l *logins) next() {
	if now := l.w.loop.Now(); l.w.part.scenario.Rate == 0 && now < l.w.plan.End {
		l.start(now)
	}
}
