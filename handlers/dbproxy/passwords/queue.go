package passwords

import (
	"time"

	"teamtalk/core/im"
)

// The classes of waiting logins: those from networks from which their user has logged in
// before, and those of strangers.
const (
	known = iota
	strangers
	classes
)

// classOf returns the class of a login. isKnown: its user has logged in from its network.
func classOf(isKnown bool) int {
	if isKnown {
		return known
	}
	return strangers
}

const (
	// maxWaiting bounds the derivations of a class that wait, in case they get faster.
	maxWaiting = 4096
	// maxOfUser is the number of places of a user in the class known. Clients repeat one
	// password, which takes one place, so more than two are a sign of guessing.
	maxOfUser = 8
	// maxEqual bounds the logins that share a derivation.
	maxEqual = 32
	// strangersTurn is which turn is theirs: one of so many.
	strangersTurn = 4
	// firstMean is taken for the duration of a derivation until one was measured.
	firstMean = 10 * time.Millisecond
)

// queue holds the derivations of a class.
type queue struct {
	waiting []*job
	open    map[Key]*job   // those that wait or run
	held    map[holder]int // places of those that wait
}

// job is a derivation that waits or runs.
type job struct {
	queue   *queue
	login   Login
	key     Key
	came    time.Time             // the latest of its logins
	done    []func(Answer, error) // those of all its logins
	holders []holder
}

// holder is a client, or a set of clients, whose places in a queue are bounded. Clients of
// unknown address are one network, the empty one.
type holder struct {
	user        uint32 // 0: all users
	network     string
	allNetworks bool
}

// holders returns those that hold the place of a login. The first is its network. Those of
// class known are then its user, and the user in this network. Strangers are not counted by
// user: strangers could keep each other out by the name of a user.
func holders(class int, l *Login) []holder {
	if class == strangers {
		return []holder{{network: l.Network}}
	}
	return []holder{{network: l.Network}, {user: l.Account.ID, allNetworks: true},
		{user: l.Account.ID, network: l.Network}}
}

// count adds to the places of the holders of a job.
func (q *queue) count(j *job, by int) {
	for _, h := range j.holders {
		if q.held[h] += by; q.held[h] == 0 {
			delete(q.held, h)
		}
	}
}

// Ask derives the password of a login that Look could not check, on another goroutine, and
// then calls done there. done must not block. Logins of a class with the same user, row and
// password share one derivation. The error is of kind Busy when the login had to wait for
// too long: then done gets it. When Ask returns it, done is not called.
func (c *Checker) Ask(l *Login, done func(Answer, error)) error {
	stored := l.Account.Stored()
	if l.Account.ID == 0 {
		stored = noAccount.Stored()
	}
	key, now := c.keyOf(l, stored), c.opt.Now()
	class := classOf(l.Known)
	c.mu.Lock()
	defer c.mu.Unlock()
	q := &c.queues[class]
	if j := q.open[key]; j != nil {
		return c.join(j, now, done)
	}
	who := holders(class, l)
	if err := c.room(class, who); err != nil {
		c.metrics.derivations.WithLabelValues("busy").Inc()
		return err
	}
	j := &job{queue: q, login: *l, key: key, came: now, done: []func(Answer, error){done},
		holders: who}
	account := *l.Account // that of the caller is part of its batch
	j.login.Account = &account
	q.waiting = append(q.waiting, j)
	q.open[key] = j
	q.count(j, 1)
	if c.active < c.workers {
		c.active++
		go c.work()
	}
	return nil
}

// join adds a login to an equal one that waits or is derived. The caller holds the mutex.
func (c *Checker) join(j *job, now time.Time, done func(Answer, error)) error {
	if len(j.done) >= maxEqual {
		c.metrics.derivations.WithLabelValues("busy").Inc()
		return im.Errorf(im.Busy, "%d equal logins wait for the check of a password", maxEqual)
	}
	j.came = now
	j.done = append(j.done, done)
	return nil
}

// places returns how many derivations of a class may wait: those whose turns come within
// the longest wait. The caller holds the mutex.
func (c *Checker) places(class int) int {
	mean := c.mean
	if mean <= 0 {
		mean = firstMean
	}
	turns := int(c.opt.Wait * time.Duration(c.workers) / mean)
	// One that waits behind n others of its class waits for n turns of it, and for as many
	// of the other class as wait there, or as are due before: 3n for a stranger, n/3 for
	// class known. It has a place while these are no more than turns.
	due := turns / strangersTurn
	if class == known {
		due = (turns*(strangersTurn-1) + strangersTurn - 2) / strangersTurn
	}
	others := len(c.queues[classes-1-class].waiting)
	return min(1+max(due, turns-others), maxWaiting)
}

// room returns an error unless a login of a class may wait. A network that has as many
// places as are free gets no more, so one leaves half of them to others, two leave a third,
// and so on. The same holds for the networks of a user, within the places of the user. The
// caller holds the mutex.
func (c *Checker) room(class int, who []holder) error {
	q := &c.queues[class]
	free := c.places(class) - len(q.waiting)
	if free <= 0 {
		return im.Errorf(im.Busy, "%d logins wait for the check of a password", len(q.waiting))
	}
	if n := q.held[who[0]]; n >= free {
		return im.Errorf(im.Busy, "%d logins from the same network wait for the check of a "+
			"password, and %d places are free", n, free)
	}
	if class == strangers {
		return nil
	}
	if n := q.held[who[2]]; n >= maxOfUser-q.held[who[1]] {
		return im.Errorf(im.Busy, "%d logins of the same user wait for the check of a password, "+
			"%d of them from the same network", q.held[who[1]], n)
	}
	return nil
}

// next removes the derivation whose turn it is from those that wait; nil: none waits, and
// the worker ends. close must follow.
func (c *Checker) next() *job {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn++
	class := known
	if len(c.queues[known].waiting) == 0 ||
		len(c.queues[strangers].waiting) > 0 && c.turn%strangersTurn == 0 {
		class = strangers
	}
	q := &c.queues[class]
	if len(q.waiting) == 0 {
		c.active--
		return nil
	}
	j := q.waiting[0]
	q.waiting[0] = nil
	if q.waiting = q.waiting[1:]; len(q.waiting) == 0 {
		q.waiting = nil
	}
	q.count(j, -1)
	return j
}

// close ends a job and returns its logins. Logins that arrive later have another job.
func (c *Checker) close(j *job) []func(Answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(j.queue.open, j.key)
	return j.done
}

// expire ends a job if all its logins have waited for too long. Then it returns them.
func (c *Checker) expire(j *job, now time.Time) []func(Answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(j.came) <= c.opt.Wait {
		return nil
	}
	delete(j.queue.open, j.key)
	return j.done
}

// work derives the passwords of waiting logins until there are none.
func (c *Checker) work() {
	for j := c.next(); j != nil; j = c.next() {
		begun := c.opt.Now()
		if late := c.expire(j, begun); late != nil {
			c.metrics.derivations.WithLabelValues("busy").Add(float64(len(late)))
			for _, done := range late {
				done(Answer{}, im.Errorf(im.Busy, "the login waited longer than %s for the check "+
					"of its password", c.opt.Wait))
			}
			continue
		}
		// An equal login of the other class may have been derived meanwhile, or one that
		// ended between Look and Ask.
		verdict, derived := c.recall(j.key), 0
		if verdict == Pending {
			verdict, derived = quick(c.check(j)), 1
			c.took(c.opt.Now().Sub(begun))
		}
		logins := c.close(j)
		c.metrics.derivations.WithLabelValues(verdict.result()).Add(float64(derived))
		c.metrics.remembered.WithLabelValues(verdict.result()).
			Add(float64(len(logins) - derived))
		for _, done := range logins {
			done(Answer{j.key, verdict == Right}, nil)
		}
	}
}

// took notes the duration of a derivation.
func (c *Checker) took(d time.Duration) {
	c.metrics.seconds.Add(d.Seconds())
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mean == 0 {
		c.mean = d
	}
	c.mean += (d - c.mean) / 16
}

// waiting returns the number of logins that wait.
func (c *Checker) waiting() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.queues {
		for _, j := range c.queues[i].waiting {
			n += len(j.done)
		}
	}
	return n
}
