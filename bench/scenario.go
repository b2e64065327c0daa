package bench

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

// The kinds of scenario.
const (
	KindConnect = "connect" // a login storm
	KindIdle    = "idle"    // many connections that do nothing
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

// Scenario says what a run does. The tags are the definition of the settings, see Fields: their names in a file, defaults, bounds, the kinds of scenario that
// they are for (all, when none is named), and what they mean. Users are numbered from First on.
type Scenario struct {
	Kind string `toml:"kind" json:"kind" doc:"what is done: connect, idle, single, group, mixed, file or soak"`
	Of   string `toml:"of" json:"of,omitempty" default:"mixed" oneof:"connect|single|group|mixed|file" kinds:"soak" doc:"the kind of scenario that goes on for hours"`
	Name string `toml:"name" json:"name,omitempty" doc:"what the run is called in reports"`

	Addrs    []string `toml:"addr" json:"addr" default:"127.0.0.1:8000" doc:"message servers; connections are spread over them in turn"`
	Format   string   `toml:"format" json:"format" default:"u%05d" doc:"login name of user number 1, 2, …"`
	Password string   `toml:"password" json:"-" default:"pw" doc:"password of every user"`
	First    int      `toml:"first" json:"first" default:"1" min:"1" max:"1000000000" doc:"number of the first user"`
	Client   string   `toml:"client" json:"client" default:"android" oneof:"android|ios|windows|mac" doc:"what the clients say they are; windows and mac are told who comes and goes"`
	Parallel int      `toml:"parallel" json:"parallel" default:"64" min:"1" max:"100000" doc:"logins under way at once"`
	Timeout  Duration `toml:"timeout" json:"timeout" default:"30s" min:"10ms" max:"10m" doc:"longest wait for a connection and for an answer"`
	Loops    int      `toml:"loops" json:"loops" default:"0" min:"0" max:"64" doc:"event loops of each generator process (0: half as many as cores)"`
	Seed     int      `toml:"seed" json:"seed" default:"1" doc:"of everything that is drawn by lot"`
	Acks     bool     `toml:"acks" json:"acks" default:"true" doc:"receivers answer each message, as clients do; without, the servers must not redeliver (--msg.redeliver-after 0s)"`
	Beat     Duration `toml:"heartbeat" json:"heartbeat" default:"30s" min:"100ms" max:"1h" doc:"how often each client sends a heartbeat"`

	Warmup   Duration `toml:"warmup" json:"warmup" default:"2s" min:"0s" max:"1h" kinds:"connect,single,group,mixed,file" doc:"time before counting"`
	Duration Duration `toml:"duration" json:"duration" default:"10s" min:"10ms" max:"1000h" kinds:"connect,single,group,mixed,file" doc:"time counted"`
	Settle   Duration `toml:"settle" json:"settle" default:"5s" min:"0s" max:"1h" doc:"idle: pause between the last login and reading memory; others: how long to wait in vain for what is still on its way"`

	Rate     float64     `toml:"rate" json:"rate" default:"0" min:"0" max:"10000000" kinds:"connect,single,group,mixed,file" doc:"messages, logins, operations or files a second, all together; they start on a schedule, and latency counts from the scheduled time (0: as fast as the servers answer)"`
	Arrivals string      `toml:"arrivals" json:"arrivals" default:"constant" oneof:"constant|poisson" kinds:"connect,single,group,mixed,file" doc:"with a rate: evenly spaced, or by chance as independent people would"`
	Window   int         `toml:"window" json:"window" default:"16" min:"1" max:"16384" kinds:"single,group,mixed" doc:"without a rate: messages of a sender that may wait for their ack"`
	Size     config.Size `toml:"size" json:"size" default:"64" min:"32" max:"1000000" kinds:"single,group,mixed" doc:"bytes of each text, at least 32"`

	Pairs   int   `toml:"pairs" json:"pairs,omitempty" default:"200" min:"1" max:"4000000" kinds:"single,file" doc:"pairs of users, the first of each writes, or sends files, to the second"`
	Groups  int   `toml:"groups" json:"groups,omitempty" default:"1" min:"1" max:"100000" kinds:"group,mixed" doc:"groups, made at the start"`
	Members int   `toml:"members" json:"members,omitempty" default:"100" min:"2" max:"100000" kinds:"group,mixed" doc:"members of each group"`
	Senders int   `toml:"senders" json:"senders,omitempty" default:"1" min:"1" max:"60000" kinds:"group" doc:"members of each group that write"`
	IDs     []int `toml:"group_ids" json:"group_ids,omitempty" kinds:"group" doc:"groups that exist already, instead of making them; their members are the users in order"`

	Connections int      `toml:"connections" json:"connections,omitempty" default:"1000" min:"1" max:"10000000" kinds:"connect,idle" doc:"users that log in, one connection each"`
	Online      int      `toml:"online" json:"online,omitempty" default:"0" min:"0" max:"10000000" kinds:"connect" doc:"further users that are logged in before, and stay"`
	After       string   `toml:"after" json:"after,omitempty" default:"logout" oneof:"logout|close|stay" kinds:"connect" doc:"after a login: log out and let the next user in, close without a word and do so, or stay until all are logged in"`
	Hold        Duration `toml:"hold" json:"hold,omitempty" default:"0s" min:"0s" max:"1000h" kinds:"idle" doc:"how much longer to stay; two seconds at least, in which everybody sends a last heartbeat"`

	FileSize config.Size `toml:"file_size" json:"file_size,omitempty" default:"64KiB" min:"1" max:"4294967295" kinds:"mixed,file" doc:"bytes of each file"`
	Mode     string      `toml:"mode" json:"mode,omitempty" default:"offline" oneof:"offline|online|both" kinds:"file" doc:"the server keeps each file until it is fetched, passes it on directly, or both in turn"`

	Population int     `toml:"population" json:"population,omitempty" default:"200" min:"8" max:"1000000" kinds:"mixed" doc:"users who are at work all the time: half at a pc, half with a phone; without a rate they do 0.2 things a second each"`
	Roaming    int     `toml:"roaming" json:"roaming,omitempty" default:"50" min:"0" max:"1000000" kinds:"mixed" doc:"further users who log in, sync, and log out again"`
	Texts      float64 `toml:"share_texts" json:"share_texts,omitempty" default:"50" min:"0" max:"1000000" kinds:"mixed" doc:"what share of all that is done is a text to another user; likewise the following"`
	GroupTexts float64 `toml:"share_group_texts" json:"share_group_texts,omitempty" default:"10" min:"0" max:"1000000" kinds:"mixed" doc:"… a text to a group"`
	Reads      float64 `toml:"share_reads" json:"share_reads,omitempty" default:"20" min:"0" max:"1000000" kinds:"mixed" doc:"… marking a conversation as read"`
	History    float64 `toml:"share_history" json:"share_history,omitempty" default:"6" min:"0" max:"1000000" kinds:"mixed" doc:"… reading a conversation's history"`
	Presence   float64 `toml:"share_presence" json:"share_presence,omitempty" default:"5" min:"0" max:"1000000" kinds:"mixed" doc:"… asking who of 20 users is online"`
	Typing     float64 `toml:"share_typing" json:"share_typing,omitempty" default:"5" min:"0" max:"1000000" kinds:"mixed" doc:"… telling another user that one is typing"`
	Logins     float64 `toml:"share_logins" json:"share_logins,omitempty" default:"3" min:"0" max:"1000000" kinds:"mixed" doc:"… a roaming user's login, first sync and logout"`
	Files      float64 `toml:"share_files" json:"share_files,omitempty" default:"1" min:"0" max:"1000000" kinds:"mixed" doc:"… a file sent over the file server"`
}

// Duration is a time.Duration that is written "10s" in files.
type Duration time.Duration

var _ encoding.TextMarshaler = Duration(0)

// MarshalText writes the duration as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return errors.New(`want a duration such as "10s", "2m" or "500ms"`)
	}
	*d = Duration(v)
	return nil
}

// String writes the duration as time.Duration does.
func (d Duration) String() string { return time.Duration(d).String() }

// Validate reports what is wrong with the scenario, all of it: settings out of their bounds and settings that do not fit together.
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
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if s.Kind == KindSoak && len(problems) == 0 {
		of := *s
		of.Kind = s.Of
		return of.Validate()
	}
	if len(s.Addrs) == 0 {
		add("addr: no message server given")
	}
	if name := s.userName(1); strings.Contains(name, "%!") || name == s.userName(2) {
		add("format: want one place for the number of a user, such as \"u%%05d\", got %q", s.Format)
	}
	if s.has("senders") && s.Senders > s.Members {
		add("senders: %d of a group's %d members cannot write", s.Senders, s.Members)
	}
	if s.Kind == KindMixed && s.Members > s.Population {
		add("members: %d of a population of %d", s.Members, s.Population)
	}
	if s.Kind == KindMixed && s.Logins > 0 && s.Roaming == 0 {
		add("share_logins: nobody is roaming")
	}
	if shares := s.shares(); s.Kind == KindMixed && shares[len(shares)-1].upTo <= 0 {
		add("share_…: nothing is done")
	}
	if len(s.IDs) > 0 && len(s.IDs) != s.Groups {
		add("group_ids: %d ids for %d groups", len(s.IDs), s.Groups)
	}
	for _, id := range s.IDs {
		if id <= 0 || id > math.MaxUint32 {
			add("group_ids: %d is no id", id)
		}
	}
	return errors.Join(problems...)
}

// has reports whether a setting is for this kind of scenario.
func (s *Scenario) has(key string) bool {
	return slices.ContainsFunc(Fields(s.Kind), func(f Field) bool { return f.Key == key })
}

// Users is how many users have to exist.
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

func (s *Scenario) userName(number int) string { return fmt.Sprintf(s.Format, number) }

func (s *Scenario) clientType() pb.ClientType {
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
