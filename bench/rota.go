package bench

// rota is whose turn it is to log in, and the logins that were due by schedule when nobody was free.
type rota struct {
	w      *worker
	free   []*client // who is not logged in, in turn
	head   int
	late   []int64 // when they were due
	missed int64   // more than maxLate
}

// maxLate bounds rota.late.
const maxLate = 1 << 16

// start logs in the one who has been away longest. It reports false when nobody is free.
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

// begin starts a login that is due, now or once somebody is free.
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

// release takes back one who is free again, and starts the login that has been due longest; it reports whether there was one. After the run's end that goes on
// for as long as is waited for what is on its way.
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

// over counts the logins that were due and never began: a server that is too slow for the schedule is not to be spared what it was too slow for.
func (r *rota) over() {
	n := r.missed + int64(len(r.late))
	r.w.waiting -= int64(len(r.late))
	r.late, r.missed = nil, 0
	if n > 0 {
		r.w.checks.Refused += n
		r.w.checks.example("%d logins were due and did not begin: all users were logging in or out, or logged in", n)
	}
}
