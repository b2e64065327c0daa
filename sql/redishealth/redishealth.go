// Package redishealth knows whether a Redis answers, by the results of the operations on it. Its
// users log one line for an outage, however long it is.
package redishealth

import (
	"maps"
	"sync"
	"time"
)

// Health is the state of a Redis. The zero value is one that works. Any goroutine.
type Health struct {
	mu    sync.Mutex
	errs  map[string]error // by operation, of the last attempt
	since time.Time        // begin of the outage; zero: there is none
}

// Starting sets the error of an operation before its first attempt. It begins no outage.
func (h *Health) Starting(operation string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.errs = map[string]error{operation: err}
}

// Set notes the result of an operation. begins reports that an outage begins with it. ended is the
// length of the outage that ends with it; 0: none ends.
func (h *Health) Set(operation string, err error) (begins bool, ended time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		if h.errs == nil {
			h.errs = map[string]error{}
		}
		h.errs[operation] = err
	} else {
		delete(h.errs, operation)
	}
	switch {
	case err != nil && h.since.IsZero():
		h.since = time.Now()
		return true, 0
	case len(h.errs) == 0 && !h.since.IsZero():
		ended = max(time.Since(h.since), 1)
		h.since = time.Time{}
	}
	return false, ended
}

// First returns the first of the operations that fails, with its error and the time for which the
// outage has lasted. Without one that fails the error is nil.
func (h *Health) First(operations []string) (operation string, lasts time.Duration, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range operations {
		if err := h.errs[o]; err != nil {
			return o, time.Since(h.since), err
		}
	}
	return "", 0, nil
}

// Errs returns the errors of the operations that fail.
func (h *Health) Errs() map[string]error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.errs)
}
