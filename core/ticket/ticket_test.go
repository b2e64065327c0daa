package ticket

import (
	"bytes"
	"math"
	"testing"
	"time"

	"teamtalk/core/im"
)

var (
	key = bytes.Repeat([]byte{'k'}, MinKey)
	now = time.Unix(1_800_000_000, 0)
)

func TestParseReturnsWhatWasSigned(t *testing.T) {
	for _, want := range []Ticket{New(7, 1<<20, now), New(Server, 0, now),
		New(math.MaxUint32, math.MaxUint32, now)} {
		got, err := Parse(key, want.Sign(key), now)
		if err != nil || got != want {
			t.Errorf("%+v became %+v, %v", want, got, err)
		}
	}
	if a, b := New(7, 0, now), New(7, 0, now); a.ID == b.ID || a.ID.String() == b.ID.String() {
		t.Errorf("two tickets have the id %s", a.ID)
	}
}

// TestExpiry: a ticket is valid for Life, and on a machine whose clock is Skew ahead or behind.
func TestExpiry(t *testing.T) {
	token := New(7, 0, now).Sign(key)
	for age, valid := range map[time.Duration]bool{
		0: true, -Skew: true, -Skew - time.Second: false, Life: true, Life + Skew: true,
		Life + Skew + time.Second: false, -time.Hour: false,
	} {
		if _, err := Parse(key, token, now.Add(age)); (err == nil) != valid {
			t.Errorf("at the age of %v: %v, want valid: %v", age, err, valid)
		}
	}
	for _, at := range []int64{math.MinInt64, -1, 0, math.MaxInt64} {
		long := Ticket{User: 7, Expires: time.Unix(at, 0)}
		if _, err := Parse(key, long.Sign(key), now); im.KindOf(err) != im.Denied {
			t.Errorf("expiry %d: %v", at, err)
		}
	}
}

// TestForgedTickets changes each bit of a token, its length and its key.
func TestForgedTickets(t *testing.T) {
	good := New(7, 1<<20, now).Sign(key)
	tokens := map[string]string{"none": "", "shorter": good[1:], "longer": good + "A",
		"padded": good + "=", "of another key": New(7, 1<<20, now).Sign(key[1:]),
		"with a line break": "\n" + good[1:], "with blanks": good[:len(good)-2] + "  "}
	raw, err := encoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(raw) * 8 {
		b := bytes.Clone(raw)
		b[i/8] ^= 1 << (i % 8)
		tokens[string(rune(i))] = encoding.EncodeToString(b)
	}
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for i := range digits {
		if c := good[:len(good)-1] + digits[i:i+1]; c != good {
			tokens["with the end "+digits[i:i+1]] = c
		}
	}
	for what, token := range tokens {
		if got, err := Parse(key, token, now); im.KindOf(err) != im.Denied {
			t.Errorf("a ticket %q: %+v, %v", what, got, err)
		}
	}
}

// FuzzParse: no input is a ticket except what Sign returned.
func FuzzParse(f *testing.F) {
	good := New(7, 1<<20, now).Sign(key)
	f.Add(good)
	f.Add("")
	f.Add(good[:len(good)-1] + "\n")
	f.Add(string(bytes.Repeat([]byte{'A'}, len(good))))
	f.Fuzz(func(t *testing.T, token string) {
		got, err := Parse(key, token, now)
		if (err == nil) != (token == got.Sign(key)) {
			t.Errorf("%q: %+v, %v", token, got, err)
		}
		if err != nil && im.KindOf(err) != im.Denied {
			t.Errorf("%q: kind %v", token, im.KindOf(err))
		}
	})
}
