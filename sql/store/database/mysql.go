package database

import (
	"database/sql"
	"time"

	"teamtalk/core/cert"
	"teamtalk/sql/mysqlconn"
	"teamtalk/sql/store/use"
)

// Values enter statements in three ways. Numbers are formatted as decimals. Texts and bytes
// in the script of a batch are literals of hexadecimal digits (AppendText, AppendHex). All
// other texts are arguments, which the driver quotes because InterpolateParams is set, as
// the sql_mode that the server reports demands.
//
// A literal with quotes would save one byte of two, and no time: an INSERT of 256 texts of
// 88 bytes takes 0.46 ms in either form, and 0.50 ms with arguments (BenchmarkQuoting).
// TestHostileTexts sends texts that would end a quoted literal early.

// masterSilence is the longest silence of the master in the answer to a statement.
const masterSilence = 30 * time.Second

// openMySQL opens a pool of n connections with the settings that this package relies on,
// for any DSN that names a database. t is the TLS of the settings. A server that is silent
// for longer than silence, unless the DSN names another time, counts as lost.
func openMySQL(dsn string, t *cert.Client, n int, silence time.Duration,
	uses *use.Uses) (*sql.DB, error) {
	cfg, err := mysqlconn.Parse(dsn, t)
	if err != nil {
		return nil, err
	}
	cfg.InterpolateParams = true // one round trip per statement instead of three
	cfg.ClientFoundRows = true   // an update to the same value must not report "not found"
	cfg.ParseTime = false
	cfg.DialFunc = dial
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
	base, err := mysqlconn.Connector(cfg)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector{base, cfg.Params, &generation{uses: uses}})
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	db.SetConnMaxIdleTime(10 * time.Minute) // shorter than firewalls keep an idle connection
	return db, nil
}
