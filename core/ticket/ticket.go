// Package ticket signs and checks the tickets with which clients upload small files. A
// message server gives them to clients that are logged in. The small file server checks them
// with the same key, without asking.
package ticket

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"time"

	"teamtalk/core/im"
)

const (
	// Life is the time for which a ticket is valid.
	Life = 5 * time.Minute
	// Skew is the difference between the clocks of two servers that is tolerated.
	Skew = 30 * time.Second
	// MinKey is the length of the shortest key, in bytes.
	MinKey = 32
	// Header is the HTTP header that contains the ticket of an upload.
	Header = "X-TeamTalk-Ticket"
	// Parameter is the parameter of the URL that contains it, for clients that cannot set a
	// header.
	Parameter = "ticket"
	// Server is the user of the tickets that servers sign for themselves.
	Server = 0
)

// Ticket allows uploads until it expires.
type Ticket struct {
	User    uint32    // Server: no user
	Expires time.Time // in whole seconds
	MaxSize uint32    // of one file, in bytes; 0: no bound
	ID      ID        // random
}

// ID tells tickets apart in logs.
type ID [8]byte

// String returns the id in hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// New returns a ticket for a user that is valid from now on. maxSize is that of a file, in
// bytes; 0: no bound.
func New(user, maxSize uint32, now time.Time) Ticket {
	t := Ticket{User: user, MaxSize: maxSize, Expires: now.Round(0).Add(Life)}
	_, _ = rand.Read(t.ID[:]) // does not fail
	return t
}

// A token is base64 of: version, user, expiry in unix seconds, size, id, and the MAC of the
// bytes before. Numbers are big-endian.
const (
	version = 1
	signed  = 1 + 4 + 8 + 4 + len(ID{})
	length  = signed + sha256.Size
)

// domain begins what is signed, so that no other use of the key makes a ticket.
const domain = "teamtalk upload ticket\x00"

// encoding has no unused bits at this length.
var encoding = base64.RawURLEncoding

// Sign returns the token of a ticket.
func (t Ticket) Sign(key []byte) string {
	b := make([]byte, 0, length)
	b = append(b, version)
	b = binary.BigEndian.AppendUint32(b, t.User)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Expires.Unix()))
	b = binary.BigEndian.AppendUint32(b, t.MaxSize)
	b = append(b, t.ID[:]...)
	return encoding.EncodeToString(append(b, mac(key, b)...))
}

func mac(key, b []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(domain))
	h.Write(b)
	return h.Sum(nil)
}

// Parse checks a token and returns its ticket. The error is of kind Denied: the token is not
// one of this key, has expired, or is valid for longer than Life. Expiry is compared by the
// wall clock, since another machine may have signed.
func Parse(key []byte, token string, now time.Time) (Ticket, error) {
	if len(token) != encoding.EncodedLen(length) {
		return Ticket{}, im.Errorf(im.Denied, "a ticket of %d characters", len(token))
	}
	b := make([]byte, length)
	// Decode skips line breaks, so that it may return fewer bytes.
	if n, err := encoding.Decode(b, []byte(token)); err != nil || n != length {
		return Ticket{}, im.Errorf(im.Denied, "the ticket is not base64")
	}
	if b[0] != version {
		return Ticket{}, im.Errorf(im.Denied, "a ticket of version %d", b[0])
	}
	if !hmac.Equal(b[signed:], mac(key, b[:signed])) {
		return Ticket{}, im.Errorf(im.Denied, "the ticket is not signed with this server's key")
	}
	t := Ticket{User: binary.BigEndian.Uint32(b[1:]),
		Expires: time.Unix(int64(binary.BigEndian.Uint64(b[5:])), 0),
		MaxSize: binary.BigEndian.Uint32(b[13:]), ID: ID(b[17:])}
	switch now = now.Round(0); {
	case t.Expires.Before(now.Add(-Skew)):
		return Ticket{}, im.Errorf(im.Denied, "the ticket expired at %s",
			t.Expires.UTC().Format(time.RFC3339))
	case t.Expires.After(now.Add(Life + Skew)):
		return Ticket{}, im.Errorf(im.Denied, "the ticket is valid for too long, until %s",
			t.Expires.UTC().Format(time.RFC3339))
	}
	return t, nil
}
