package config

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// mask replaces a secret in every output.
const mask = "********"

// Size is a number of bytes, written as "64KiB", "1MiB", "2GB" or a plain number.
type Size int64

// units are the units of sizes. String uses the binary ones.
var units = []struct {
	name string
	n    int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

// binaryUnits is the number of binary units at the begin of units.
const binaryUnits = 4

// SizeForm and DurationForm say what sizes and durations are, for errors and help texts.
const (
	SizeForm = "a whole number and one of the units B, KiB, MiB, GiB, TiB, kB, MB, GB and TB; " +
		"without a unit it counts bytes"
	DurationForm = "numbers, each with one of the units h, m, s, ms, us and ns"
)

// ParseSize parses a size. It refuses "K", "M" and "G" alone, because some readers take
// them as powers of 1,000 and others as powers of 1,024.
func ParseSize(s string) (Size, error) {
	s = strings.TrimSpace(s)
	number, factor := s, int64(1)
	for _, u := range units {
		if n := len(s) - len(u.name); n > 0 && strings.EqualFold(s[n:], u.name) {
			number, factor = strings.TrimSpace(s[:n]), u.n
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return 0, fmt.Errorf(`want a size such as "64KiB", not %q: %s`, s, SizeForm)
	}
	return Size(n * factor), nil
}

// String returns the size as a whole number of the largest binary unit that divides it.
func (s Size) String() string {
	for _, u := range units[:binaryUnits] {
		if s != 0 && int64(s)%u.n == 0 {
			return strconv.FormatInt(int64(s)/u.n, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// Secret is a text that every output shows as ********. Reveal returns the text.
type Secret string

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String returns asterisks, or nothing for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return mask
}

// Format keeps the secret out of every verb of package fmt.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue keeps the secret out of logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText keeps the secret out of JSON and other encodings.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// DSN is a data source name of MySQL, user:password@tcp(host:3306)/database. Every output
// shows asterisks for its password.
type DSN string

// Reveal returns the DSN with its password.
func (d DSN) Reveal() string { return string(d) }

// String returns the DSN with asterisks for its password. It hides another text
// completely, because the password may be anywhere in it.
func (d DSN) String() string {
	if d == "" {
		return ""
	}
	s := string(d)
	// The driver splits a DSN in this way too: a password may hold '@', '/' and ':', an
	// address may not.
	slash := strings.LastIndexByte(s, '/')
	if slash < 0 {
		return mask
	}
	at := strings.LastIndexByte(s[:slash], '@')
	if at < 0 {
		return s
	}
	user, _, secret := strings.Cut(s[:at], ":")
	if !secret {
		return s
	}
	return user + ":" + mask + s[at:]
}

// Format keeps the password out of every verb of package fmt.
func (d DSN) Format(f fmt.State, _ rune) { io.WriteString(f, d.String()) }

// LogValue keeps the password out of logs.
func (d DSN) LogValue() slog.Value { return slog.StringValue(d.String()) }

// MarshalText keeps the password out of JSON and other encodings.
func (d DSN) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// WebURL is a URL of http or https that may hold a user, a password and a query with a key. Every
// output shows asterisks for these.
type WebURL string

// Reveal returns the URL itself.
func (u WebURL) Reveal() string { return string(u) }

// String returns the URL with asterisks for user and password, and for the query.
func (u WebURL) String() string {
	if u == "" {
		return ""
	}
	scheme, rest, ok := strings.Cut(string(u), "://")
	if !ok {
		return mask
	}
	rest, query, asks := strings.Cut(rest, "?")
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = mask + rest[at:]
	}
	if asks && query != "" {
		rest += "?" + mask
	}
	return scheme + "://" + rest
}

// secret reports whether the URL has parts that String does not show.
func (u WebURL) secret() bool { return u.String() != string(u) }

// Format keeps the secrets out of every verb of package fmt.
func (u WebURL) Format(f fmt.State, _ rune) { io.WriteString(f, u.String()) }

// LogValue keeps the secrets out of logs.
func (u WebURL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText keeps the secrets out of JSON and other encodings.
func (u WebURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// formatDuration returns a duration in seconds, as in the defaults, and from ten minutes
// on in the form of time.Duration without its trailing zero minutes and seconds.
func formatDuration(d time.Duration) string {
	if d < 10*time.Minute && d%time.Second == 0 {
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
