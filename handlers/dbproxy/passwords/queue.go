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

const (
	// maxWaiting bounds the waiting logins of a class, in case derivations get slower.
	maxWaiting = 4096
	// maxOfNetwork bounds the waiting strangers of one network. They get their turns as fast
	// as others, because this many are always more than run.
	maxOfNetwork = 128
	// strangersTurn is which turn is theirs: one of so many.
	strangersTurn = 4
	// firstMean is taken for the duration of a derivation until one was measured.
	firstMean = 10 * time.Millisecond
)

// queue holds the waiting logins of a class.
type queue struct {
	waiting []*job
	of      map[string]int // waiting strangers by network
}

// job is a login that waits for its derivation.
type job struct {
	login Login
	key   Key
	came  time.Time
	done  func(Answer, error)
}

// Ask derives the password of a login that Look could not check, on another goroutine, and
// then calls done there. done must not block. The error is of kind Busy when the login had
// to wait for too long: then done gets it. When Ask returns it, done is not called.
func (c *Checker) Ask(l *Login, done func(Answer, error)) error {
	stored := l.Account.Stored()
	if l.Account.ID == 0 {
		stored = noAccount.Stored()
	}
	j := &job{login: *l, key: c.keyOf(l, stored), came: c.opt.Now(), done: done}
	account := *l.Account // that of the caller is part of its batch
	j.login.Account = &account
	class := strangers
	if l.Known {
		class = known
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.room(class, l.Network); err != nil {
		c.metrics.derivations.WithLabelValues("busy").Inc()
		return err
	}
	q := &c.queues[class]
	q.waiting = append(q.waiting, j)
	if class == strangers && l.Network != "" {
		if q.of == nil {
			q.of = map[string]int{}
		}
		q.of[l.Network]++
	}
	if c.active < c.workers {
		c.active++
		go c.work()
	}
	return nil
}

// room returns an error unless a login of a class may wait. The caller holds the mutex.
func (c *Checker) room(class int, network string) error {
	q := &c.queues[class]
	if class == strangers && network != "" && q.of[network] >= maxOfNetwork {
		return im.Errorf(im.Busy, "%d logins from the same network wait for the check of a "+
			"password", maxOfNetwork)
	}
	ahead := len(q.waiting)
	if class == strangers {
		ahead += min(len(c.queues[known].waiting), ahead*(strangersTurn-1))
	} else {
		ahead += min(len(c.queues[strangers].waiting), ahead/(strangersTurn-1))
	}
	mean := c.mean
	if mean == 0 {
		mean = firstMean
	}
	wait := time.Duration(ahead) * mean / time.Duration(c.workers)
	if wait > c.opt.Wait || len(q.waiting) >= maxWaiting {
		return im.Errorf(im.Busy, "%d logins wait for the check of a password", ahead)
	}
	return nil
}

// next removes the login whose turn it is; nil: none waits, and the worker ends.
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
	if n := q.of[j.login.Network]; n > 1 {
		q.of[j.login.Network] = n - 1
	} else if n == 1 {
		delete(q.of, j.login.Network)
	}
	return j
}

// work derives the passwords of waiting logins until there are none.
func (c *Checker) work() {
	for j := c.next(); j != nil; j = c.next() {
		begun := c.opt.Now()
		if begun.Sub(j.came) > c.opt.Wait {
			c.metrics.derivations.WithLabelValues("busy").Inc()
			j.done(Answer{}, im.Errorf(im.Busy, "the login waited longer than %s for the check "+
				"of its password", c.opt.Wait))
			continue
		}
		right := c.check(j)
		c.took(c.opt.Now().Sub(begun))
		result := "wrong"
		if right {
			result = "right"
		}
		c.metrics.derivations.WithLabelValues(result).Inc()
		j.done(Answer{j.key, right}, nil)
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
		n += len(c.queues[i].waiting)
	}
	return n
}
