package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"teamtalk/core/audit"
	"teamtalk/core/config/spelling"
	"teamtalk/core/daily"
	"teamtalk/core/im"
	"teamtalk/core/origin"
	"teamtalk/core/registry"
	"teamtalk/core/ticket"
	"teamtalk/core/websocket"
)

// Words that stand for an address.
const (
	off  = "off"  // no listener
	auto = "auto" // a listener for other servers, unless all roles run in this process
)

// check returns the fault of a value of the right type. The text completes "msg.listen:
// …".
func (s Setting) check(v any) error {
	if err := s.checkRange(v); err != nil {
		return err
	}
	if words := allowedWords(s.tag); words != "" {
		allowed := strings.Split(words, "|")
		if got := fmt.Sprint(v); !slices.Contains(allowed, got) {
			return fmt.Errorf("%q is none of %s", got, strings.Join(allowed, ", "))
		}
	}
	// Package fmt would mask a secret.
	text := ""
	if rv := reflect.ValueOf(v); rv.Kind() == reflect.String {
		text = rv.String()
	}
	if strings.Contains(text, mask) {
		return errors.New("the asterisks stand for a password that is not shown; put the " +
			"password there")
	}
	if form := forms[s.tag.Get("form")]; form != nil && text != "" {
		return form(text)
	}
	if form := listForms[s.tag.Get("form")]; form != nil {
		for _, e := range v.([]string) {
			if err := form(e); err != nil {
				return err
			}
		}
	}
	return s.checkEmpty(v)
}

// checkEmpty refuses an empty value when the default is not empty, so that "" has no
// hidden meaning. A list of networks may be empty.
func (s Setting) checkEmpty(v any) error {
	rv := reflect.ValueOf(v)
	hasLen := rv.Kind() == reflect.String || rv.Kind() == reflect.Slice
	if s.Default == "" || !hasLen || rv.Len() > 0 {
		return nil
	}
	switch s.tag.Get("form") {
	case "listen", "internal":
		return fmt.Errorf("empty; to close this port write %q", off)
	case "cidr":
		return nil // no network
	}
	return errors.New("must not be empty")
}

func (s Setting) checkRange(v any) error {
	number := func(text string) float64 { // a test checks that the bounds parse
		b, _ := s.parse(text)
		n, _ := asNumber(b)
		return n
	}
	n, ok := asNumber(v)
	if !ok {
		return nil
	}
	if low := s.tag.Get("min"); low != "" && n < number(low) {
		return fmt.Errorf("must be %s or more", low)
	}
	if high := s.tag.Get("max"); high != "" && n > number(high) {
		return fmt.Errorf("must be %s or less", high)
	}
	return nil
}

func asNumber(v any) (float64, bool) {
	switch v := v.(type) {
	case int:
		return float64(v), true
	case float64:
		return v, true
	case Size:
		return float64(v), true
	case time.Duration:
		return float64(v), true
	}
	return 0, false
}

// forms check the syntax of a text. They are not called for an empty text.
var forms = map[string]func(string) error{
	"listen": func(s string) error {
		if s == off {
			return nil
		}
		return checkAddr(s, 0)
	},
	"internal": func(s string) error {
		if s == off || s == auto {
			return nil
		}
		return checkAddr(s, 0)
	},
	"host": func(s string) error {
		if strings.ContainsAny(s, "/ ") || (strings.Contains(s, ":") && net.ParseIP(s) == nil) {
			return fmt.Errorf("%q is no IP address or host name; the port has a setting of its own",
				s)
		}
		return nil
	},
	"url": func(s string) error {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			// A URL may hold a password, so it is not quoted.
			return errors.New("want a URL such as http://files.example.com:8700/")
		}
		return nil
	},
	"websocket": checkWebSocketURL,
	"syslog":    audit.CheckSyslog,
	"hours": func(s string) error {
		_, err := daily.Parse(s)
		return err
	},
	"node": registry.CheckName,
	"dsn": func(s string) error { // the errors must not quote s, which holds a password
		slash := strings.LastIndexByte(s, '/')
		if slash < 0 || s[slash+1:] == "" || strings.HasPrefix(s[slash+1:], "?") {
			return errors.New("want user:password@tcp(host:3306)/database")
		}
		if strings.Contains(s, "://") {
			return errors.New("want no URL, but user:password@tcp(host:3306)/database")
		}
		return nil
	},
	"redis": func(s string) error {
		_, err := RedisURL(s).parse()
		return err
	},
	"key": func(s string) error {
		if len(s) < ticket.MinKey {
			return fmt.Errorf("must be at least %d bytes long, not %d", ticket.MinKey, len(s))
		}
		return nil
	},
	"key32": func(s string) error {
		if len(s) != 32 {
			return fmt.Errorf("must be 32 bytes long, not %d", len(s))
		}
		return nil
	},
}

// listForms check the syntax of each entry of a list.
var listForms = map[string]func(string) error{
	"addrs":   func(s string) error { return checkAddr(s, 1) },
	"sockets": func(s string) error { return checkAddr(s, 1) },
	"cidr": func(s string) error {
		_, err := origin.ParseNetwork(s)
		return err
	},
	"domains": checkDomain,
	"origins": func(s string) error {
		_, err := websocket.ParseOrigins([]string{s})
		return err
	},
	"roles": func(s string) error {
		if slices.Contains(roles, s) {
			return nil
		}
		return fmt.Errorf("%q is no role%s; there are %s", s,
			spelling.DidYouMean(spelling.Nearest(s, roles)), strings.Join(roles, ", "))
	},
}

// checkAddr checks a host:port. With low 0 it is an address to listen on: no host means
// every address of this machine, and port 0 any free port.
func checkAddr(s string, low int) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || strings.ContainsAny(host, "/ @") || (low > 0 && host == "") {
		if low > 0 {
			return fmt.Errorf("%q is no address such as 10.0.0.5:8000", s)
		}
		return fmt.Errorf("%q is no address such as 127.0.0.1:8000 or :8000", s)
	}
	if n, err := strconv.Atoi(port); err != nil || n < low || n > 65535 {
		return fmt.Errorf("%q: port %q is not a number from %d to 65535", s, port, low)
	}
	return nil
}

// checkDomain refuses what a CA with ACME gives no certificate for without access to the DNS.
func checkDomain(s string) error {
	switch {
	case strings.HasPrefix(s, "*."):
		return fmt.Errorf("%q: a CA checks a wildcard in the DNS only, which this server cannot; "+
			"list the names", s)
	case net.ParseIP(s) != nil:
		return fmt.Errorf("%q is an address; want a name", s)
	case len(s) > 253 || strings.Trim(s, ".") != s || strings.Contains(s, "..") ||
		strings.ContainsFunc(s, func(r rune) bool {
			return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '.')
		}):
		return fmt.Errorf("%q is no name of a host in small letters", s)
	}
	return nil
}

// checkTogether returns the problems of settings that contradict each other.
func (c *Config) checkTogether() []Problem {
	var problems []Problem
	wrong := func(key, format string, args ...any) {
		problems = append(problems, Problem{key, c.Origin(key), fmt.Sprintf(format, args...)})
	}
	for i, r := range c.Roles {
		if slices.Contains(c.Roles[:i], r) {
			wrong("roles", "%q is listed twice", r)
		}
	}
	if c.Msg.Listen == off && c.Runs("msg") {
		wrong("msg.listen", "a message server needs a port for clients; leave msg out of roles "+
			"instead")
	}
	if c.Link.Timeout <= c.Link.Heartbeat {
		wrong("link.timeout", "must be longer than link.heartbeat (%s), or a quiet server counts "+
			"as gone", formatDuration(c.Link.Heartbeat))
	}
	if int64(c.Link.MaxFrame) < int64(c.Msg.MaxFrame) {
		wrong("link.max_frame", "must not be below msg.max_frame (%s): servers forward the frames "+
			"of clients", c.Msg.MaxFrame)
	}
	if c.MSFS.UploadRate > 0 && c.MSFS.UploadBurst < c.MSFS.MaxSize {
		wrong("msfs.upload_burst", "must not be below msfs.max_size (%s), or no client can upload "+
			"such a file", c.MSFS.MaxSize)
	}
	if c.MSFS.Quota > 0 && c.MSFS.S3Endpoint != "" {
		wrong("msfs.quota", "not for the bucket of msfs.s3_endpoint: set the quota of the "+
			"bucket on the S3 server instead")
	}
	c.checkExpiry(wrong)
	if age := c.DBProxy.MessageExpiry; age > 0 && age < im.MinPruneAge {
		wrong("dbproxy.message_expiry", "must be 0s (never) or at least %s, not %s",
			formatDuration(im.MinPruneAge), formatDuration(age))
	}
	c.checkRedis(wrong)
	return problems
}

// checkExpiry reports settings with which small files expire too early.
func (c *Config) checkExpiry(wrong func(key, format string, args ...any)) {
	after, unused := c.MSFS.ExpireAfter, c.MSFS.ExpireUnusedAfter
	const least = 24 * time.Hour
	if after > 0 && after < least {
		wrong("msfs.expire_after", "must be 0s (never) or at least 24h, not %s",
			formatDuration(after))
	}
	if unused > 0 && unused < least {
		wrong("msfs.expire_unused_after", "must be 0s (as other files) or at least 24h, not %s",
			formatDuration(unused))
	}
	if after > 0 && unused > after {
		wrong("msfs.expire_unused_after", "must not be above msfs.expire_after (%s), which "+
			"applies to all files", formatDuration(after))
	}
}

// checkRedis reports settings of Redis that contradict each other.
func (c *Config) checkRedis(wrong func(key, format string, args ...any)) {
	r := &c.Redis
	if len(r.Sentinels) == 0 {
		if r.DB != 0 && (r.Cluster || len(r.Addrs) > 1) {
			wrong("redis.db", "a Redis Cluster has no database but 0")
		}
		return
	}
	if r.Cluster {
		wrong("redis.cluster", "a Redis Cluster has no Sentinels: leave out redis.sentinels")
	}
	if !slices.Equal(r.Addrs, Default().Redis.Addrs) {
		wrong("redis.addrs", "not used, because redis.sentinels say where the master is: leave "+
			"out one of them")
	}
}

// CheckServe returns an *Error with the settings that c.Roles need and that are missing:
// the addresses of peers in other processes, the certificates for links to other machines,
// and the database; and with ports that have the same address. Commands need none of them, so
// Load does not check them.
func (c *Config) CheckServe() error {
	var problems []Problem
	missing := func(key, format string, args ...any) {
		problems = append(problems, Problem{key, c.Origin(key), fmt.Sprintf(format, args...)})
	}
	if c.Runs("msg") {
		for _, p := range []struct {
			role  string
			addrs []string
		}{{"dbproxy", c.Msg.DBProxy}, {"route", c.Msg.Route}, {"login", c.Msg.Login}} {
			if p.role != "route" || !c.Mesh() {
				c.need(missing, "msg", p.role, p.addrs)
			}
		}
	}
	if c.Runs("http") && !c.AllInOne() {
		if c.HTTP.AppsFile == "" {
			missing("http.apps_file", "needed: this process runs http, and without the file "+
				"nobody may call it")
		}
		c.need(missing, "http", "dbproxy", c.HTTP.DBProxy)
		if !c.Mesh() {
			c.need(missing, "http", "route", c.HTTP.Route)
		}
	}
	if c.Runs("msfs") && (c.MSFS.S3Endpoint == "") != (c.MSFS.S3Bucket == "") {
		missing("msfs.s3_bucket", "needed with msfs.s3_endpoint, and the other way round")
	}
	if c.NeedsTicketKey() && c.MSFS.TicketKey == "" && !c.keepsTickets() {
		missing("msfs.ticket_key", "needed with msfs.tickets = %q: give all msg, msfs and "+
			"dbproxy servers the same key, such as the output of openssl rand -hex 32",
			c.MSFS.Tickets)
	}
	c.checkTLS(missing)
	c.checkLinks(missing)
	c.checkPorts(missing)
	c.checkRegistry(missing)
	c.checkMesh(missing)
	c.checkWeb(missing)
	if c.Runs("file") && c.File.CheckOnline == "on" && !c.Mesh() {
		c.need(missing, "file", "route", c.File.Route)
	}
	c.checkAdminAPI(missing)
	if c.Runs("dbproxy") || Addr(c.AdminAPI.Listen) != "" && c.Store == "mysql" {
		if err := c.CheckStore(); err != nil {
			problems = append(problems, err.(*Error).Problems...)
		}
	}
	return asError(problems)
}

// need adds the problem of a role of this process that finds no server of another role: there is
// none in this process, no address, and no registry.
func (c *Config) need(missing func(key, format string, args ...any), role, other string,
	addrs []string) {
	if !c.Runs(other) && len(addrs) == 0 && !c.Registry.Enabled {
		missing(role+"."+other, "needed: this process runs %s without %s, so say where %[2]s is, "+
			"or set registry.enabled in both, so that they find each other", role, other)
	}
}

// checkTLS adds the problems of the section tls.
func (c *Config) checkTLS(wrong func(key, format string, args ...any)) {
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		wrong("tls.key", "needed with tls.certificate, and the other way round")
	}
	switch a := &c.TLS.ACME; {
	case len(a.Domains) == 0:
	case c.TLS.Certificate != "":
		wrong("tls.acme.domains", "not together with tls.certificate: the certificate comes from "+
			"the CA or from the file")
	case !a.AgreeTOS:
		wrong("tls.acme.agree_tos", "needed with tls.acme.domains: true says that you agree to "+
			"the terms of %s", a.Directory)
	}
}

// NeedsTicketKey reports whether this process signs or checks tickets for uploads.
func (c *Config) NeedsTicketKey() bool {
	return c.MSFS.Tickets != off && (c.Runs("msg") || c.Runs("msfs") || c.Runs("dbproxy"))
}

// keepsTickets reports whether no other process needs the key of this process's tickets.
func (c *Config) keepsTickets() bool {
	return c.Runs("msg") && c.Runs("msfs") && c.Runs("dbproxy") && !c.Mesh() &&
		len(c.Msg.Login)+len(c.Msg.Route)+len(c.Msg.DBProxy) == 0 &&
		c.Login.MSFSPrior == "" && c.Login.MSFSBackup == "" && c.DBProxy.MSFS == "" &&
		(!c.Registry.Enabled || c.AllInOne() && !c.Serves("dbproxy"))
}

// databaseTLS returns the problems of files of TLS that are incomplete, or not used: the
// connection that they should protect would be plain.
func (c *Config) databaseTLS() []Problem {
	var problems []Problem
	for _, p := range [][3]string{{"mysql", c.MySQL.Certificate, c.MySQL.Key},
		{"redis", c.Redis.Certificate, c.Redis.Key}} {
		if key := p[0] + ".key"; (p[1] == "") != (p[2] == "") {
			problems = append(problems, Problem{key, c.Origin(key), "needed with " + p[0] +
				".certificate, and the other way round"})
		}
	}
	r := &c.Redis
	encrypted := r.TLS
	for _, u := range []RedisURL{r.Unread, r.GroupSet, r.Token, r.Sync, r.GroupMember,
		c.Registry.Redis} {
		encrypted = encrypted || u.scheme() == "rediss://"
	}
	for _, f := range [][2]string{{"redis.ca", r.CA}, {"redis.certificate", r.Certificate}} {
		if f[1] != "" && !encrypted {
			problems = append(problems, Problem{f[0], c.Origin(f[0]), "not used: set redis.tls, " +
				"or begin a URL of an instance with rediss://"})
		}
	}
	return problems
}

// CheckStore returns an *Error with the settings that the store needs and that are
// missing. A database without store = "mysql" is a mistake that would otherwise be noticed
// late: the embedded store works as well, and has none of the users and messages.
func (c *Config) CheckStore() error {
	if problems := c.databaseTLS(); len(problems) > 0 {
		return asError(problems)
	}
	if c.MySQL.Master != "" && c.origin["store"] == fromDefault {
		return asError([]Problem{{Key: "store", Origin: fromDefault, Msg: "needed with " +
			`mysql.master: "mysql" to use that database, or "embedded" not to use it`}})
	}
	if c.Store == "mysql" && c.MySQL.Master == "" {
		return asError([]Problem{{Key: "mysql.master", Origin: c.Origin("mysql.master"),
			Msg: `needed with store = "mysql": user:password@tcp(host:3306)/teamtalk`}})
	}
	return nil
}

// Addr returns the address to listen on for clients and operators; "" when the setting
// closes the port.
func Addr(setting string) string {
	if setting == off {
		return ""
	}
	return setting
}

// ServerAddr returns the address to listen on for message servers; "": none, as when all
// roles run in one process.
func (l Login) ServerAddr(allInOne bool) string {
	return internal(l.ServerListen, ":8100", allInOne)
}

// Addr returns the address to listen on for message servers; "": none, as when all roles
// run in one process.
func (r Route) Addr(allInOne bool) string { return internal(r.Listen, ":8200", allInOne) }

// Addr returns the address to listen on for message servers; "": none, as when all roles
// run in one process.
func (p Push) Addr(allInOne bool) string { return internal(p.Listen, ":8500", allInOne) }

// ServerAddr returns the address to listen on for message servers; "": none, as when all
// roles run in one process.
func (f File) ServerAddr(allInOne bool) string {
	return internal(f.ServerListen, ":8601", allInOne)
}

// Addr returns the address to listen on for other servers; "": none, as when all roles
// run in one process.
func (d DBProxy) Addr(allInOne bool) string { return internal(d.Listen, ":10600", allInOne) }

// internal returns the address of a listener for servers; "": none. "auto" stands for the
// standard address when other roles may run elsewhere. An address given by the operator
// is always opened.
func internal(setting, standard string, allInOne bool) string {
	switch {
	case setting == off, setting == auto && allInOne:
		return ""
	case setting == auto:
		return standard
	}
	return setting
}
