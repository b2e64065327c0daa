package bench

// rota chooses the users that log in next, and queues logins that were due when no user
// was free.
type rota struct {
	w      *worker
	free   []*client // users that are not logged in, in turn
	head   int
	late   []int64 // times at which they were due
	missed int64   // logins beyond maxLate
}

// maxLate bounds rota.late.
const maxLate = 1 << 16

// start logs in the user that has been logged out longest. It returns false when no user
// is free.
func (r *rota) start(due int64) bool {
	if r.head == len(r.free) {
		return false
	}
	c := r.free[r.head]
	r.free[r.head] = nil
	r.head++
	if r.head > 256 && 2*r.head > len(r.free) {
		r.free = r.free[:copy(r.free, r.free[r.head:])]
		r.head = 0
	}
	r.w.waiting++
	c.login(due)
	return true
}

// begin starts a login that is due, now or once a user is free.
func (r *rota) begin(due int64) {
	switch {
	case r.start(due):
	case len(r.late) == maxLate:
		r.missed++
	default:
		r.late = append(r.late, due)
		r.w.waiting++
	}
}

// release returns a user to the rota and starts the login that has been due longest. It
// reports whether there was one. This continues after the end of the run until Settle has
// passed.
func (r *rota) release(c *client) bool {
	r.free = append(r.free, c)
	if len(r.late) == 0 || r.w.loop.Now() >= r.w.plan.End+int64(r.w.part.scenario.Settle) {
		return false
	}
	due := r.late[0]
	r.late = r.late[1:]
	r.w.waiting--
	return r.start(due)
}

// over counts the logins that were due and never started, because the latencies of a
// server that is too slow for the schedule do not contain them.
func (r *rota) over() {
	n := r.missed + int64(len(r.late))
	r.w.waiting -= int64(len(r.late))
	r.late, r.missed = nil, 0
	if n > 0 {
		r.w.checks.Refused += n
		r.w.checks.example("%d logins were due and did not begin: no user was free", n)
	}
}
