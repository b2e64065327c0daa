package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"teamtalk/core/access"
	"teamtalk/core/config/spelling"
)

// Origin names the source of a setting's value: "default", "teamtalk.toml:12",
// "environment TEAMTALK_STORE", "flag --store".
type Origin string

const fromDefault Origin = "default"

// flagOrigin returns the origin of a value from the flag with this name, without dashes.
func flagOrigin(name string) Origin { return Origin("flag --" + name) }

// Problem is one mistake in a configuration.
type Problem struct {
	Key    string // the setting, or the unknown name
	Origin Origin
	Msg    string
}

// String returns the place, the setting and the reason in one line.
func (p Problem) String() string {
	switch {
	case p.Key == "":
		return fmt.Sprintf("%s: %s", p.Origin, p.Msg)
	case p.Origin == fromDefault || p.Origin == "":
		return fmt.Sprintf("%s: %s", p.Key, p.Msg)
	case p.Origin == flagOrigin(p.Key): // it names the setting, in the same spelling
		return fmt.Sprintf("%s: %s", p.Origin, p.Msg)
	}
	return fmt.Sprintf("%s: %s: %s", p.Origin, p.Key, p.Msg)
}

// Error holds all problems of a configuration. Its text has one line for each problem.
type Error struct{ Problems []Problem }

// Error returns the problems, one a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

func asError(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	return &Error{Problems: problems}
}

// Sources are the sources of settings besides the defaults. Load skips those with a zero
// value.
type Sources struct {
	// File is the path of a TOML file, which must exist.
	File string
	// Env is the environment as os.Environ returns it. A variable with an empty value
	// counts as not set: tools that start containers pass such variables for values that
	// they do not have. "[]" empties a list.
	Env []string
	// Flags are parsed flags that AddFlags defined. Only those given on the command line
	// count.
	Flags *pflag.FlagSet
}

// Default returns the configuration with the default of every setting.
func Default() *Config {
	settings := Settings()
	c := &Config{origin: make(map[string]Origin, len(settings))}
	for _, s := range settings {
		if s.Default != "" {
			if err := s.set(c, s.Default); err != nil {
				// The tests of this package call Default, so they find such a tag.
				panic(fmt.Sprintf("config: default of %s: %v", s.Key, err))
			}
		}
		c.origin[s.Key] = fromDefault
	}
	return c
}

// Load merges the sources and checks the result. It returns an *Error with all problems
// of the settings, or an error of another type when the file cannot be read.
func Load(src Sources) (*Config, error) {
	c := Default()
	var problems []Problem
	if src.File != "" {
		data, err := os.ReadFile(src.File)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("configuration file %s does not exist", src.File)
		} else if err != nil {
			return nil, fmt.Errorf("read configuration file: %w", err)
		}
		problems = append(problems, c.readTOML(src.File, data)...)
		c.warnReadable(src.File)
	}
	problems = append(problems, c.readEnv(src.Env)...)
	problems = append(problems, c.readFlags(src.Flags)...)
	if len(problems) == 0 { // otherwise values are missing, and their checks would mislead
		problems = c.checkTogether()
	}
	if err := asError(problems); err != nil {
		return nil, err
	}
	c.warnReadableFiles()
	c.warnWide()
	c.warnPlaintext()
	c.warnUnserved()
	c.warnLacks()
	return c, nil
}

// warnPlaintext adds a warning for each data source name that allows connections without TLS
// beside those with TLS.
func (c *Config) warnPlaintext() {
	for _, x := range []struct {
		key string
		dsn DSN
	}{{"mysql.master", c.MySQL.Master}, {"mysql.slave", c.MySQL.Slave}} {
		text := x.dsn.Reveal()
		_, query, _ := strings.Cut(text[strings.LastIndexByte(text, '/')+1:], "?")
		for parameter := range strings.SplitSeq(query, "&") {
			name, value, _ := strings.Cut(parameter, "=")
			fallback, _ := strconv.ParseBool(value)
			if name == "tls" && strings.EqualFold(value, "preferred") ||
				name == "allowFallbackToPlaintext" && fallback {
				c.warnings = append(c.warnings, fmt.Sprintf("%s: with %s a connection is plain "+
					"when the server, or a machine in between, says that it has no TLS: name the "+
					"CA in mysql.ca, and leave the parameter out", x.key, parameter))
			}
		}
	}
}

// warnWide adds a warning for each network of trusted machines that holds a large part of the
// internet.
func (c *Config) warnWide() {
	for _, x := range []struct {
		key      string
		networks []string
		effect   string
	}{
		{"proxy.networks", c.Proxy.Networks, "may claim any address in a PROXY header"},
		{"http.trusted_proxies", c.HTTP.TrustedProxies,
			"may claim any address in the header http.client_header"},
		{"strangers.trusted_networks", c.Strangers.Trusted, "may open connections without bounds"},
	} {
		for _, n := range x.networks {
			if p, err := netip.ParsePrefix(n); err == nil && wide(p) {
				c.warnings = append(c.warnings, fmt.Sprintf("%s: %s holds addresses of clients, "+
					"which then %s: name only the networks of your proxies", x.key, n, x.effect))
			}
		}
	}
}

// wide reports whether a network is larger than any network of one organisation.
func wide(p netip.Prefix) bool {
	a := p.Masked().Addr()
	if a.Is4() {
		return p.Bits() < 8
	}
	return p.Bits() < 7 || p.Bits() < 16 && !a.IsPrivate() && !a.IsLinkLocalUnicast()
}

// Origin returns the source of the value of a setting.
func (c *Config) Origin(key string) Origin { return c.origin[key] }

// OnLoopback returns a copy of c whose ports for clients and servers listen on the loopback
// address, except those whose address the operator has given. The chat page is on.
func (c *Config) OnLoopback() *Config {
	copied := *c
	for key, addr := range map[string]*string{
		"login.client_listen": &copied.Login.ClientListen,
		"login.http_listen":   &copied.Login.HTTPListen, "msg.listen": &copied.Msg.Listen,
		"file.listen": &copied.File.Listen, "msfs.listen": &copied.MSFS.Listen,
		"http.listen": &copied.HTTP.Listen, "tls.acme.http_listen": &copied.TLS.ACME.HTTPListen,
	} {
		if c.Origin(key) == fromDefault && strings.HasPrefix(*addr, ":") {
			*addr = "127.0.0.1" + *addr
		}
	}
	if copied.Runs("web") && c.Origin("web.listen") == fromDefault {
		copied.Web.Listen = demoWeb
	}
	all := c.AllInOne()
	for setting, addr := range map[*string]string{
		&copied.Login.ServerListen: c.Login.ServerAddr(all),
		&copied.Route.Listen:       c.Route.Addr(all),
		&copied.DBProxy.Listen:     c.DBProxy.Addr(all),
		&copied.File.ServerListen:  c.File.ServerAddr(all),
		&copied.Push.Listen:        c.Push.Addr(all),
	} {
		if *setting == auto && addr != "" {
			*setting = "127.0.0.1" + addr
		}
	}
	return &copied
}

// Warnings returns warnings for the operator: about variables in the environment that
// resemble a setting but are none, about empty ones of lists, about a file with passwords
// that every user of the machine can read, and about networks of proxies that hold clients.
func (c *Config) Warnings() []string { return slices.Clone(c.warnings) }

// warnReadable adds a warning when file holds passwords and every user of the machine can
// read it.
func (c *Config) warnReadable(file string) {
	if !access.Everybody(file) {
		return
	}
	for _, s := range Settings() {
		u, _ := s.field(c).Interface().(WebURL)
		if (s.Type == "secret" || u.secret()) && strings.HasPrefix(string(c.Origin(s.Key)), file) {
			c.warnings = append(c.warnings, fmt.Sprintf("%s sets %s and can be read by all users "+
				"on this machine: chmod o-r %s", file, s.Key, file))
			return
		}
	}
}

// warnReadableFiles adds a warning for each file with secrets that a setting names and every
// user of the machine can read. The tag holds of a setting says what its file holds.
func (c *Config) warnReadableFiles() {
	for _, s := range Settings() {
		holds := s.tag.Get("holds")
		if holds == "" {
			continue
		}
		if file := s.field(c).String(); file != "" && access.Everybody(file) {
			c.warnings = append(c.warnings, fmt.Sprintf("%s (%s) holds %s and can be read by all "+
				"users on this machine: chmod o-r %s", file, s.Key, holds, file))
		}
	}
}

func (c *Config) readEnv(env []string) []Problem {
	known, names := variables()
	var problems []Problem
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, EnvPrefix) {
			continue
		}
		s, ok := known[name]
		if value == "" {
			c.warnEmpty(s)
			continue
		}
		if !ok {
			// Container platforms set variables of their own that begin with the name of
			// a service, so this is no error.
			if like := spelling.Nearest(name, names); name != EnvFile && len(like) > 0 {
				c.warnings = append(c.warnings, fmt.Sprintf(
					"environment variable %s: no such setting%s", name, spelling.DidYouMean(like)))
			}
			continue
		}
		origin := Origin("environment " + name)
		if err := s.set(c, value); err != nil {
			problems = append(problems, Problem{Key: s.Key, Origin: origin, Msg: err.Error()})
			continue
		}
		c.origin[s.Key] = origin
	}
	return problems
}

// variables returns the settings by their names in the environment, and these names in the order of
// the settings. The caller does not change them.
var variables = sync.OnceValues(func() (map[string]Setting, []string) {
	known := map[string]Setting{}
	var names []string
	for _, s := range Settings() {
		known[s.Env()] = s
		names = append(names, s.Env())
	}
	return known, names
})

// warnEmpty adds a warning about an empty variable of a list that is not empty: an operator
// may have meant to empty it. s is the variable's setting, a zero one if there is none.
func (c *Config) warnEmpty(s Setting) {
	if s.Type == "list" && s.field(c).Len() > 0 {
		c.warnings = append(c.warnings, fmt.Sprintf("environment variable %s is empty and "+
			"counts as not set: %s remains %s; write %s to empty it", s.Env(), s.Key,
			s.text(c), emptyList))
	}
}

// AddFlags defines a flag for every setting. Help texts list the settings in show; with
// nil they list the common ones.
func AddFlags(flags *pflag.FlagSet, show []string) {
	AddSomeFlags(flags, show, func(string) bool { return true })
}

// AddSomeFlags is AddFlags for the settings whose key is wanted.
func AddSomeFlags(flags *pflag.FlagSet, show []string, wanted func(key string) bool) {
	settings, _ := definition()
	for i := range settings {
		s := &settings[i]
		if !wanted(s.Key) {
			continue
		}
		v := &flagValue{setting: s, text: s.Default}
		f := flags.VarPF(v, s.Flag(), "", firstSentence(s.Doc))
		if s.Type == "true|false" {
			f.NoOptDefVal = "true"
		}
		f.Hidden = !slices.Contains(show, s.Key) && (show != nil || !s.Common)
	}
}

// LikeFlags returns the flags of settings, with their dashes, that resemble a wrong name.
func LikeFlags(name string) []string {
	var names []string
	for _, s := range Settings() {
		names = append(names, s.Flag())
	}
	like := spelling.Nearest(name, names)
	for i, n := range like {
		like[i] = "--" + n
	}
	return like
}

// IsSetting reports whether AddFlags defined a flag.
func IsSetting(f *pflag.Flag) bool {
	_, ok := f.Value.(*flagValue)
	return ok
}

// HoldsSecret reports whether AddFlags defined a flag whose value may be, or contain, a
// password or a key: errors must not quote it.
func HoldsSecret(f *pflag.Flag) bool {
	v, ok := f.Value.(*flagValue)
	return ok && (v.setting.Type == "secret" || slices.Contains([]string{"url", "syslog"},
		v.setting.tag.Get("form")))
}

// flagValue keeps the value of the command line until Load. When Set returns an error,
// pflag adds the name of the flag.
type flagValue struct {
	setting *Setting
	text    string
}

// String returns the default for help texts.
func (v *flagValue) String() string { return v.text }

// Type returns the text that help texts show behind the flag.
func (v *flagValue) Type() string {
	switch v.setting.field(new(Config)).Interface().(type) {
	case DSN:
		return "dsn"
	case RedisURL:
		return "url"
	}
	switch v.setting.Type {
	case "text", "secret":
		return "string" // the word that pflag uses
	case "list":
		return "a,b"
	}
	return v.setting.Type
}

// Set checks a value and keeps it.
func (v *flagValue) Set(text string) error {
	if text == "" && v.setting.Default == "" {
		v.text = ""
		return nil
	}
	var scratch Config
	if err := v.setting.set(&scratch, text); err != nil {
		return err
	}
	v.text = text
	return nil
}

func (c *Config) readFlags(flags *pflag.FlagSet) []Problem {
	if flags == nil {
		return nil
	}
	var problems []Problem
	flags.Visit(func(f *pflag.Flag) {
		v, ok := f.Value.(*flagValue)
		if !ok {
			return
		}
		origin := flagOrigin(f.Name)
		if err := v.setting.set(c, v.text); err != nil {
			problems = append(problems, Problem{v.setting.Key, origin, err.Error()})
			return
		}
		c.origin[v.setting.Key] = origin
	})
	return problems
}

func firstSentence(doc string) string {
	if i := strings.Index(doc, ". "); i >= 0 {
		return doc[:i]
	}
	return strings.TrimSuffix(doc, ".")
}
