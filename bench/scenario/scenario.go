// Package scenario describes what a run of the load generator does: its settings with their
// defaults, bounds and descriptions, and the values that follow from them.
package scenario

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"teamtalk/core/config"
	"teamtalk/proto/pb"
)

// Kinds of scenario.
const (
	KindConnect = "connect" // login storm
	KindIdle    = "idle"    // many connections that only send heartbeats
	KindSingle  = "single"  // texts between pairs of users
	KindGroup   = "group"   // texts in groups
	KindMixed   = "mixed"   // a company's day
	KindFile    = "file"    // files from user to user
	KindSoak    = "soak"    // another kind, for hours
)

// Kinds returns the kinds of scenario.
func Kinds() []string {
	return []string{KindConnect, KindIdle, KindSingle, KindGroup, KindMixed, KindFile, KindSoak}
}

// Scenario says what a run does. Fields returns the names, defaults, bounds and descriptions
// of its settings. Users are numbered from First.
type Scenario struct {
	Kind string `toml:"kind" json:"kind"`
	Of   string `toml:"of" json:"of,omitempty"`
	Name string `toml:"name" json:"name,omitempty"`

	Addrs     []string `toml:"addr" json:"addr"`
	Format    string   `toml:"format" json:"format"`
	Password  string   `toml:"password" json:"-"`
	First     int      `toml:"first" json:"first"`
	Client    string   `toml:"client" json:"client"`
	Parallel  int      `toml:"parallel" json:"parallel"`
	Timeout   Duration `toml:"timeout" json:"timeout"`
	Loops     int      `toml:"loops" json:"loops"`
	Seed      int      `toml:"seed" json:"seed"`
	Acks      bool     `toml:"acks" json:"acks"`
	Beat      Duration `toml:"heartbeat" json:"heartbeat"`
	TLS       bool     `toml:"tls" json:"tls,omitempty"`
	TLSCA     string   `toml:"tls_ca" json:"tls_ca,omitempty"`
	TLSName   string   `toml:"tls_name" json:"tls_name,omitempty"`
	WebSocket bool     `toml:"websocket" json:"websocket,omitempty"`

	Warmup   Duration `toml:"warmup" json:"warmup"`
	Duration Duration `toml:"duration" json:"duration"`
	Settle   Duration `toml:"settle" json:"settle"`

	Rate     float64     `toml:"rate" json:"rate"`
	Arrivals string      `toml:"arrivals" json:"arrivals"`
	Window   int         `toml:"window" json:"window"`
	Size     config.Size `toml:"size" json:"size"`

	Pairs   int   `toml:"pairs" json:"pairs,omitempty"`
	Groups  int   `toml:"groups" json:"groups,omitempty"`
	Members int   `toml:"members" json:"members,omitempty"`
	Senders int   `toml:"senders" json:"senders,omitempty"`
	IDs     []int `toml:"group_ids" json:"group_ids,omitempty"`

	Connections int      `toml:"connections" json:"connections,omitempty"`
	Online      int      `toml:"online" json:"online,omitempty"`
	After       string   `toml:"after" json:"after,omitempty"`
	Hold        Duration `toml:"hold" json:"hold,omitempty"`

	FileSize config.Size `toml:"file_size" json:"file_size,omitempty"`
	Mode     string      `toml:"mode" json:"mode,omitempty"`

	Population int     `toml:"population" json:"population,omitempty"`
	Roaming    int     `toml:"roaming" json:"roaming,omitempty"`
	Texts      float64 `toml:"share_texts" json:"share_texts,omitempty"`
	GroupTexts float64 `toml:"share_group_texts" json:"share_group_texts,omitempty"`
	Reads      float64 `toml:"share_reads" json:"share_reads,omitempty"`
	History    float64 `toml:"share_history" json:"share_history,omitempty"`
	Presence   float64 `toml:"share_presence" json:"share_presence,omitempty"`
	Typing     float64 `toml:"share_typing" json:"share_typing,omitempty"`
	Logins     float64 `toml:"share_logins" json:"share_logins,omitempty"`
	Files      float64 `toml:"share_files" json:"share_files,omitempty"`
}

// Duration is a time.Duration that is written as "10s" in files.
type Duration time.Duration

var _ encoding.TextMarshaler = Duration(0)

// MarshalText formats the duration as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText parses the formats of time.ParseDuration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf(`want a duration such as "10s" or "1h30m", not %q: %s`, b,
			config.DurationForm)
	}
	*d = Duration(v)
	return nil
}

// String formats the duration as time.Duration does.
func (d Duration) String() string { return time.Duration(d).String() }

// Validate returns all errors of the scenario: settings outside their bounds, and
// settings that contradict each other.
func (s *Scenario) Validate() error {
	var problems []error
	if !slices.Contains(Kinds(), s.Kind) {
		return fmt.Errorf("kind: want one of %s, got %q", strings.Join(Kinds(), ", "), s.Kind)
	}
	for _, f := range Fields(s.Kind) {
		if err := f.check(s); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", f.Key, err))
		}
	}
	add := func(format string, args ...any) {
		problems = append(problems,
			fmt.Errorf(format, args...))
	}
	if s.Kind == KindSoak && len(problems) == 0 {
		of := *s
		of.Kind = s.Of
		return of.Validate()
	}
	if len(s.Addrs) == 0 {
		add("addr: want a message server, got none")
	}
	if name := s.UserName(1); strings.Contains(name, "%!") || name == s.UserName(2) {
		add("format: want one place for the number of a user, such as \"u%%05d\", got %q", s.Format)
	}
	if s.has("senders") && s.Senders > s.Members {
		add("senders: %d is more than the %d members of a group", s.Senders, s.Members)
	}
	if s.Kind == KindMixed && s.Members > s.Population {
		add("members: %d is more than the population of %d", s.Members, s.Population)
	}
	if s.Kind == KindMixed && s.Logins > 0 && s.Roaming == 0 {
		add("share_logins: want roaming users, got none")
	}
	if shares := s.Shares(); s.Kind == KindMixed && slices.Max(shares) <= 0 {
		add("share_…: want one share above 0, got none")
	}
	if (s.TLSCA != "" || s.TLSName != "") && !s.TLS {
		add("tls: needed with tls_ca and tls_name")
	}
	if s.WebSocket && !s.has("websocket") {
		add("websocket: %s also speaks to file servers, which have none", s.Kind)
	}
	if len(s.IDs) > 0 && len(s.IDs) != s.Groups {
		add("group_ids: got %d ids for %d groups", len(s.IDs), s.Groups)
	}
	for _, id := range s.IDs {
		if id <= 0 || id > math.MaxUint32 {
			add("group_ids: want ids from 1 to 4294967295, got %d", id)
		}
	}
	return errors.Join(problems...)
}

// has reports whether the scenario's kind uses a setting.
func (s *Scenario) has(key string) bool {
	return slices.ContainsFunc(Fields(s.Kind), func(f Field) bool { return f.Key == key })
}

// Users returns the number of users that must exist.
func (s *Scenario) Users() int {
	kind := s.Kind
	if kind == KindSoak {
		kind = s.Of
	}
	switch kind {
	case KindSingle, KindFile:
		return 2 * s.Pairs
	case KindMixed:
		return s.Population + s.Roaming
	case KindGroup:
		return s.Groups * s.Members
	case KindConnect:
		return s.Online + s.Connections
	case KindIdle:
		return s.Connections
	}
	return 0
}

// Shares returns the shares of the activities of a day: texts, texts in groups, reads,
// histories, presence, typing, logins and files.
func (s *Scenario) Shares() []float64 {
	return []float64{s.Texts, s.GroupTexts, s.Reads, s.History, s.Presence, s.Typing,
		s.Logins, s.Files}
}

// UserName returns the name of a user.
func (s *Scenario) UserName(number int) string { return fmt.Sprintf(s.Format, number) }

// ClientType returns the type of the clients.
func (s *Scenario) ClientType() pb.ClientType {
	switch s.Client {
	case "ios":
		return pb.ClientType_CLIENT_TYPE_IOS
	case "windows":
		return pb.ClientType_CLIENT_TYPE_WINDOWS
	case "mac":
		return pb.ClientType_CLIENT_TYPE_MAC
	}
	return pb.ClientType_CLIENT_TYPE_ANDROID
}
