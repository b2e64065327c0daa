package config

import (
	"strings"
	"testing"
)

// TestPlaintextDSN warns of data source names that allow connections without TLS where TLS is
// wanted, without their passwords.
func TestPlaintextDSN(t *testing.T) {
	for query, want := range map[string]string{"": "", "?tls=true": "", "?tls=preferred": "tls=",
		"?timeout=1s&tls=Preferred": "tls=Preferred", "?tls=skip-verify": "",
		"?tls=true&allowFallbackToPlaintext=1": "allowFallbackToPlaintext=1",
		"?allowFallbackToPlaintext=false":      "", "?tls=false": ""} {
		for _, key := range []string{"mysql.master", "mysql.slave"} {
			env := "TEAMTALK_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
			dsn := "u:ge?tls=preferred&heim@tcp(h:1)/d" + query
			c, err := Load(Sources{Env: []string{env + "=" + dsn}})
			if err != nil {
				t.Fatal(err)
			}
			w := c.Warnings()
			if (len(w) > 0) != (want != "") || len(w) > 1 || want != "" && (!strings.Contains(w[0],
				want) || !strings.HasPrefix(w[0], key) || strings.Contains(w[0], "heim")) {
				t.Errorf("%s with %q: %q", key, query, w)
			}
		}
	}
}
