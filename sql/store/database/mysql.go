package database

import (
	"database/sql"
	"time"

	"github.com/go-sql-driver/mysql"

	"teamtalk/core/im"
)

// Values enter statements in three ways. Numbers are formatted as decimals. Bytes are hex
// literals (AppendHex). A text is either an argument, which the driver quotes because
// InterpolateParams is set, or, in the script of a batch, a literal that AppendText
// quotes: a script of a thousand messages as arguments would cost an allocation and a
// placeholder each. Both ways of quoting are right only with the sql_mode and the
// character set of sessionSettings. TestHostileTexts sends texts that would end a literal
// early over connections whose DSN asks for other settings.

// sessionSettings is the statement with which every connection begins. It runs after the
// settings that the driver takes from the DSN, so it prevails whatever the DSN says.
//
// Strict mode rejects a text that does not fit a column, where MySQL would cut it.
// Without NO_BACKSLASH_ESCAPES a backslash escapes. With autocommit a single statement is
// its own transaction, also on servers with another default. Only the text of an error
// names the key that a row repeats (DuplicateKey), and servers translate texts.
const sessionSettings = "SET NAMES utf8mb4 COLLATE utf8mb4_general_ci, " +
	"sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', innodb_lock_wait_timeout=10, " +
	"autocommit=1, lc_messages='en_US'"

// masterSilence is the longest silence of the master in the answer to a statement.
const masterSilence = 30 * time.Second

// openMySQL opens a pool of n connections with the settings that this package relies on,
// for any DSN that names a database. A server that is silent for longer than silence,
// unless the DSN names another time, counts as lost.
func openMySQL(dsn string, n int, silence time.Duration) (*sql.DB, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, im.WithKind(im.Invalid, "MySQL DSN", err)
	}
	if cfg.DBName == "" {
		return nil, im.Errorf(im.Invalid, "MySQL DSN: no database named")
	}
	cfg.InterpolateParams = true // one round trip per statement instead of three
	cfg.ClientFoundRows = true   // an update to the same value must not report "not found"
	cfg.MultiStatements = true   // the statements of a batch go in one packet
	cfg.ParseTime = false
	cfg.Collation = ""
	if err := cfg.Apply(mysql.Charset("utf8mb4", "utf8mb4_general_ci")); err != nil {
		return nil, im.WithKind(im.Invalid, "MySQL DSN", err)
	}
	cfg.Logger = &mysql.NopLogger{} // errors are returned, and logged by the callers
	for _, t := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&cfg.Timeout, 5 * time.Second},
		{&cfg.ReadTimeout, silence},
		{&cfg.WriteTimeout, 30 * time.Second},
	} {
		if *t.v == 0 {
			*t.v = t.def
		}
	}
	base, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, im.WithKind(im.Invalid, "MySQL DSN", err)
	}
	db := sql.OpenDB(connector{base, &generation{}})
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	db.SetConnMaxIdleTime(10 * time.Minute) // shorter than firewalls keep an idle connection
	return db, nil
}
