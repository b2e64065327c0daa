package config

import (
	"strings"
	"testing"
)

// TestACME refuses settings of tls.acme that cannot work, and says what to do.
func TestACME(t *testing.T) {
	const domains = "[tls.acme]\ndomains = [\"chat.example.org\"]\n"
	for file, want := range map[string]string{
		domains:                        "tls.acme.agree_tos: needed",
		domains + "agree_tos = true":   "",
		"[tls.acme]\nagree_tos = true": "",
		"tls.certificate = \"a\"\ntls.key = \"b\"\n" + domains: "not together with tls.cert",
	} {
		if err := serveError(t, file); (err == nil) != (want == "") ||
			err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", file, err, want)
		}
	}
	for domain, want := range map[string]string{"*.example.org": "wildcard", "10.0.0.1": "address",
		"2001:db8::1": "address", "Chat.example.org": "small letters", "a..b": "small letters",
		"chat.example.org.": "small letters",
		"a/../b":            "small letters", "ü.example.org": "small letters"} {
		_, err := load(t, "[tls.acme]\ndomains = [\""+domain+"\"]", nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", domain, err, want)
		}
	}
}
