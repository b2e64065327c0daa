// Package sessions keeps the browsers that are signed in to the page of the administrators. A
// session is made for a token and kept in memory: it ends with the process, when the browser signs
// out, when it is idle, after half a day, or when its token is removed.
package sessions

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"sync"
	"time"
)

const (
	// Idle is the longest time between two calls of a session.
	Idle = 30 * time.Minute
	// Longest is the longest time from the sign-in to the end of a session.
	Longest = 12 * time.Hour
	// MaxOfToken and Max bound the sessions of a token and of all. A sign-in beyond ends the
	// session of the token, or of all, that has been idle longest.
	MaxOfToken, Max = 16, 1024
)

// Key is the SHA-256 of a secret.
type Key = [sha256.Size]byte

// Session is a browser that is signed in.
type Session struct {
	Token Key       // the hash of the token; its role is that of the moment
	CSRF  string    // a page of another origin does not know it, so a call has to repeat it
	Ends  time.Time // if it is not idle before

	used time.Time
}

// Store keeps sessions by the hashes of their secrets, so that a look-up takes the same time for
// every wrong secret. Any goroutine.
type Store struct {
	now func() time.Time

	mu   sync.Mutex
	open map[Key]*Session
}

// New returns a store without sessions.
func New(now func() time.Time) *Store { return &Store{now: now, open: map[Key]*Session{}} }

// secret returns 256 random bits as text.
func secret() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// Open makes a session for a token. The browser keeps its secret in a cookie.
func (s *Store) Open(token Key) (Session, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, name := s.now(), secret()
	one := &Session{Token: token, CSRF: secret(), Ends: now.Add(Longest), used: now}
	s.makeRoom(now, token)
	s.open[sha256.Sum256([]byte(name))] = one
	return *one, name
}

// makeRoom ends sessions whose time is over, and one to make room for another one of a token. With
// mu held.
func (s *Store) makeRoom(now time.Time, token Key) {
	var own, idlest Key
	of := 0
	for key, one := range s.open {
		if one.over(now) {
			delete(s.open, key)
			continue
		}
		if old := s.open[idlest]; old == nil || one.used.Before(old.used) {
			idlest = key
		}
		if one.Token != token {
			continue
		}
		of++
		if old := s.open[own]; old == nil || one.used.Before(old.used) {
			own = key
		}
	}
	switch {
	case of >= MaxOfToken:
		delete(s.open, own)
	case len(s.open) >= Max:
		delete(s.open, idlest)
	}
}

// over reports whether the time of a session is over.
func (s *Session) over(now time.Time) bool {
	return !now.Before(s.Ends) || now.Sub(s.used) >= Idle
}

// Find returns the session with a secret, which is no longer idle then.
func (s *Store) Find(secret string) (found Session, ok bool) {
	key := sha256.Sum256([]byte(secret))
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.open[key]
	if one == nil {
		return found, false
	}
	now := s.now()
	if one.over(now) {
		delete(s.open, key)
		return found, false
	}
	one.used = now
	return *one, true
}

// Proves reports whether a text is the CSRF of the session.
func (s *Session) Proves(csrf string) bool {
	return subtle.ConstantTimeCompare([]byte(csrf), []byte(s.CSRF)) == 1
}

// Close ends the session with a secret.
func (s *Store) Close(secret string) {
	key := sha256.Sum256([]byte(secret))
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, key)
}

// Len returns the number of sessions, those included whose time is over.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}
