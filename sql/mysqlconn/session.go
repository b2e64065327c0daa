package mysqlconn

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// sessionSettings is the packet with which every connection begins. It runs after the
// settings that the driver takes from the DSN, so it prevails, however the DSN spells them.
//
// Strict mode rejects a text that does not fit a column, where MySQL would cut it.
// Without NO_BACKSLASH_ESCAPES a backslash escapes. With autocommit a single statement is
// its own transaction, also on servers with another default. Without completion_type a
// COMMIT begins no next transaction. Only the text of an error names the key that a row
// repeats, and servers translate texts.
const sessionSettings = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE; " +
	"SET NAMES utf8mb4 COLLATE utf8mb4_general_ci, " +
	"sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', innodb_lock_wait_timeout=10, " +
	"autocommit=1, completion_type=0, sql_auto_is_null=0, sql_safe_updates=0, unique_checks=1, " +
	"sql_select_limit=18446744073709551615, lc_messages='en_US'"

// needed are the values that the server must report after sessionSettings. A server has not
// all of them: MySQL 8 and MariaDB name the isolation differently. The last ones are not
// set, because setting them needs a privilege, or because no statement sets them.
var needed = []struct{ variable, value string }{
	{"sql_mode", "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"},
	{"character_set_client", "utf8mb4"},
	{"character_set_connection", "utf8mb4"},
	{"character_set_results", "utf8mb4"},
	{"collation_connection", "utf8mb4_general_ci"},
	{"autocommit", "ON"},
	{"tx_isolation", "REPEATABLE-READ"},
	{"transaction_isolation", "REPEATABLE-READ"},
	{"tx_read_only", "OFF"},
	{"transaction_read_only", "OFF"},
	{"completion_type", "NO_CHAIN"},
	{"innodb_lock_wait_timeout", "10"},
	{"sql_auto_is_null", "OFF"},
	{"sql_safe_updates", "OFF"},
	{"sql_select_limit", "18446744073709551615"},
	{"unique_checks", "ON"},
	{"lc_messages", "en_US"},

	{"sql_log_bin", "ON"},       // otherwise replicas miss the writes
	{"skip_replication", "OFF"}, // the same
	{"in_transaction", "0"},     // otherwise nothing is committed without a COMMIT
	{"timestamp", "DEFAULT"},    // otherwise the server's clock stands still
}

// reported asks for the variables of needed. It is a SHOW, because a SELECT of a variable
// that the server does not have fails. It costs a connection one round trip, together
// with sessionSettings. A timestamp is reported when it is not the server's clock. Both
// sides of that comparison are local times, so the end of summer time has no effect on it.
var reported = func() string {
	var names []string
	for _, n := range needed {
		if n.variable != "timestamp" {
			names = append(names, "'"+n.variable+"'")
		}
	}
	return "SHOW SESSION VARIABLES WHERE Variable_name IN (" + strings.Join(names, ",") +
		") OR Variable_name='timestamp' AND " +
		"ABS(TIMESTAMPDIFF(SECOND, FROM_UNIXTIME(Value), SYSDATE()))>60"
}()

// SettingError reports a variable of a session with a value that would lose or change
// data. The connection is closed.
type SettingError struct {
	Variable, Value, Want string
	// Parameter is the parameter of the DSN that names the variable, "" without one.
	Parameter string
}

// Error names the variable, its value, the value that is needed, and where to change it.
func (e *SettingError) Error() string {
	text := fmt.Sprintf("session variable %s is %q and must be %q: ", e.Variable, e.Value, e.Want)
	if e.Parameter != "" {
		return text + fmt.Sprintf("remove the parameter %q from the DSN", e.Parameter)
	}
	return text + "no parameter of the DSN names it, so the server, its init_connect or a " +
		"proxy sets it"
}

// IsSetting reports whether err means that a server keeps a setting that is wrong.
func IsSetting(err error) bool {
	var e *SettingError
	return errors.As(err, &e)
}

// connector opens connections that have the settings of sessionSettings.
type connector struct {
	driver.Connector
	params  map[string]string // session settings of the DSN
	explain func(error) error // adds advice to errors of TLS
}

// Connect opens a connection, applies sessionSettings, and closes the connection if the
// server reports another value.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, c.explain(err)
	}
	if err := c.prepare(ctx, conn.(driver.QueryerContext)); err != nil {
		_ = conn.Close() // the error of the statement says more
		return nil, err
	}
	return conn, nil
}

// prepare applies sessionSettings and checks what the server reports.
func (c connector) prepare(ctx context.Context, conn driver.QueryerContext) error {
	rows, err := conn.QueryContext(ctx, sessionSettings+"; "+reported, nil)
	if err != nil {
		return err
	}
	defer rows.Close()
	row := make([]driver.Value, len(rows.Columns()))
	for {
		if err := rows.Next(row); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		name, value := fmt.Sprintf("%s", row[0]), fmt.Sprintf("%s", row[len(row)-1])
		for _, n := range needed {
			if strings.EqualFold(n.variable, name) && n.value != value {
				return Refuse(c.params, n.variable, value, n.value)
			}
		}
	}
}

// Refuse returns the error of a variable with a wrong value. params are the parameters of
// the DSN.
func Refuse(params map[string]string, variable, value, want string) error {
	return &SettingError{Variable: variable, Value: value, Want: want,
		Parameter: parameter(params, variable)}
}

// parameter returns the name of the parameter that sets a variable, however it is spelled,
// or begins the transaction of in_transaction.
func parameter(params map[string]string, variable string) string {
	words := []string{variable}
	switch variable {
	case "in_transaction":
		words = append(words, "autocommit")
	case "tx_isolation", "transaction_isolation":
		words = []string{"isolation"}
	}
	var found []string
	for name := range params {
		set := strings.ToLower(name)
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(set, w) }) {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		return ""
	}
	return slices.Min(found)
}
