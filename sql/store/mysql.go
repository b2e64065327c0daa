package store

import (
	"database/sql"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"teamtalk/core/im"
)

// openMySQL opens a pool of n connections with the settings that this package relies on, whatever the DSN says.
func openMySQL(dsn string, n int) (*sql.DB, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, im.WithKind(im.Invalid, "MySQL DSN", err)
	}
	if cfg.DBName == "" {
		return nil, im.Errorf(im.Invalid, "MySQL DSN: no database named")
	}
	cfg.InterpolateParams = true // one round trip a statement instead of three
	cfg.ClientFoundRows = true   // rows affected = rows found, so that an update to the same value is not "not found"
	cfg.MultiStatements = true   // a batch's statements go in one packet; every value is a number or quoted by the driver
	cfg.ParseTime = false
	cfg.Collation = ""
	if err := cfg.Apply(mysql.Charset("utf8mb4", "utf8mb4_general_ci")); err != nil {
		return nil, im.WithKind(im.Invalid, "MySQL DSN", err)
	}
	cfg.Logger = &mysql.NopLogger{} // what goes wrong comes back as errors
	cfg.Params = sessionSettings(cfg.Params)
	for _, t := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&cfg.Timeout, 5 * time.Second}, {&cfg.ReadTimeout, 30 * time.Second}, {&cfg.WriteTimeout, 30 * time.Second}} {
		if *t.v == 0 {
			*t.v = t.def
		}
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, im.WithKind(im.Invalid, "MySQL DSN", err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	db.SetConnMaxIdleTime(10 * time.Minute) // below the idle time at which firewalls forget connections
	return db, nil
}

// sessionSettings puts the settings that this package relies on in the place of what the DSN says of them, in whatever letters. They are all set in one
// statement, so which of two would stand is left to chance otherwise – and texts that are quoted for another sql_mode or character set are no texts any more.
func sessionSettings(params map[string]string) map[string]string {
	ours := map[string]string{
		// Strict: a text that does not fit must fail, not be cut. No backslash surprises for interpolated parameters.
		"sql_mode":                 "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
		"innodb_lock_wait_timeout": "10",
		"autocommit":               "1", // what is one statement is committed with it, also where servers are set up otherwise
	}
	for name, value := range params {
		bare := strings.ToLower(name)
		for _, word := range []string{"@@", "session", "local", "."} {
			bare = strings.ReplaceAll(bare, word, "")
		}
		bare = strings.TrimSpace(bare)
		if _, set := ours[bare]; !set && !strings.HasPrefix(bare, "character_set_") && !strings.HasPrefix(bare, "collation_") && bare != "names" {
			ours[name] = value
		}
	}
	return ours
}
