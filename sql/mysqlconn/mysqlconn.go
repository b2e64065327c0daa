// Package mysqlconn opens the connections to MySQL and MariaDB of the store and of commands. It
// gives every connection the session settings on which the statements of this project rely,
// and refuses a server that keeps others. It decides which connections use TLS.
package mysqlconn

import (
	"context"
	"database/sql/driver"
	"errors"
	"maps"
	"regexp"
	"slices"

	"github.com/go-sql-driver/mysql"

	"teamtalk/core/cert"
	"teamtalk/core/im"
)

// Config is the configuration of connections. Parse makes it.
type Config struct {
	*mysql.Config
	tls *cert.Client
}

// Clone returns a copy.
func (c *Config) Clone() *Config { return &Config{c.Config.Clone(), c.tls} }

// Parse returns the configuration of a DSN, for Connector. t is the TLS of the settings, nil
// without. A CA of the settings makes the connections use TLS and verify the server. Otherwise
// the parameter tls of the DSN decides. A Unix socket is not encrypted.
//
// Parse returns an error of kind Invalid for a DSN that is malformed, names no database,
// contradicts t, or has a session setting that is not a name and a plain value. The error does
// not quote the DSN, which holds a password.
func Parse(dsn string, t *cert.Client) (*Config, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, im.WithKind(im.Invalid, "MySQL DSN", err)
	}
	if cfg.DBName == "" {
		return nil, im.Errorf(im.Invalid, "MySQL DSN: no database named")
	}
	if err := plain(cfg.Params); err != nil {
		return nil, err
	}
	cfg.MultiStatements = true // the session settings go in one packet
	cfg.Collation = ""
	if err := cfg.Apply(mysql.Charset("utf8mb4", "utf8mb4_general_ci")); err != nil {
		return nil, im.WithKind(im.Invalid, "MySQL DSN", err)
	}
	cfg.Logger = &mysql.NopLogger{} // errors are returned, and logged by the callers
	if err := encrypt(cfg, t); err != nil {
		return nil, err
	}
	return &Config{cfg, t}, nil
}

// The forms of a session setting of a DSN. Nothing in them ends the statement that the driver
// makes of all settings, nor adds another setting to it.
var (
	plainName  = regexp.MustCompile("^(?i)(@@(session\\.|local\\.)?)?(\\w+|`\\w+`)$")
	plainValue = regexp.MustCompile(`^(\w+|[+-]?[0-9]+(\.[0-9]+)?|'[^'\\]*'|"[^"\\]*")$`)
)

// plain returns an error for a session setting that is not a name and a plain value: the driver
// copies both into a statement.
func plain(params map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if !plainName.MatchString(name) {
			return im.Errorf(im.Invalid, "MySQL DSN: %.64q is no name of a session setting", name)
		}
		if !plainValue.MatchString(params[name]) {
			return im.Errorf(im.Invalid, "MySQL DSN: the value of the parameter %.64q is neither "+
				"a number, nor a word, nor a text in quotes such as %%27SYSTEM%%27", name)
		}
	}
	return nil
}

// encrypt sets the TLS of connections.
func encrypt(cfg *mysql.Config, t *cert.Client) error {
	word := cfg.TLSConfig
	switch {
	case cfg.Net == "unix" && word == "":
	case t.Verifies() && word != "" && word != "true":
		return im.Errorf(im.Invalid, "MySQL DSN: tls=%s contradicts mysql.ca, with which servers "+
			"are verified: leave out one of them", word)
	case t.Verifies() && cfg.AllowFallbackToPlaintext:
		return im.Errorf(im.Invalid, "MySQL DSN: allowFallbackToPlaintext contradicts mysql.ca, "+
			"with which all connections use TLS: leave out one of them")
	case t.Verifies():
		cfg.TLS = t.Config()
	case t.Identifies() && cfg.TLS == nil:
		return im.Errorf(im.Invalid, "mysql.certificate is not used without TLS: set mysql.ca, or "+
			"tls=true in the DSN")
	case cfg.TLS != nil:
		t.Identify(cfg.TLS)
	}
	if !cfg.AllowFallbackToPlaintext {
		return nil
	}
	// Without a function here, all connections share one configuration, and the driver turns
	// TLS off in it when a server has none: no later connection would be encrypted.
	err := cfg.Apply(mysql.BeforeConnect(func(context.Context, *mysql.Config) error { return nil }))
	return im.WithKind(im.Invalid, "MySQL DSN", err)
}

// Connector returns a connector whose connections have the session settings that this
// project relies on, whatever the DSN, the server or a proxy says.
func Connector(cfg *Config) (driver.Connector, error) {
	base, err := mysql.NewConnector(cfg.Config)
	if err != nil {
		return nil, im.WithKind(im.Invalid, "MySQL DSN", err)
	}
	explain := func(err error) error { return err }
	if cfg.TLS != nil {
		t := cfg.tls
		if t == nil { // the parameter tls of the DSN
			if t, err = cert.LoadClient("mysql", "", "", ""); err != nil {
				return nil, err
			}
		}
		explain = func(err error) error {
			if errors.Is(err, mysql.ErrNoTLS) {
				err = cert.ErrNoTLS
			}
			return t.Explain(cfg.Addr, err)
		}
	}
	return connector{base, cfg.Params, explain}, nil
}
