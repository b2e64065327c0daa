// Package mysqlconn opens the connections to MySQL and MariaDB of the store and of commands. It
// gives every connection the session settings on which the statements of this project rely,
// and refuses a server that keeps others.
package mysqlconn

import (
	"github.com/go-sql-driver/mysql"

	"teamtalk/core/im"
)

// Parse returns the configuration of a DSN, for Connector. It has kind Invalid for a DSN that
// is malformed or names no database. The error does not quote the DSN, which holds a
// password.
func Parse(dsn string) (*mysql.Config, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, im.WithKind(im.Invalid, "MySQL DSN", err)
	}
	if cfg.DBName == "" {
		return nil, im.Errorf(im.Invalid, "MySQL DSN: no database named")
	}
	cfg.MultiStatements = true // the session settings go in one packet
	cfg.Collation = ""
	if err := cfg.Apply(mysql.Charset("utf8mb4", "utf8mb4_general_ci")); err != nil {
		return nil, im.WithKind(im.Invalid, "MySQL DSN", err)
	}
	cfg.Logger = &mysql.NopLogger{} // errors are returned, and logged by the callers
	return cfg, nil
}
