package push

import (
	"testing"

	"teamtalk/core/im"
)

// FuzzParseToken parses arbitrary values.
func FuzzParseToken(f *testing.F) {
	for _, s := range []string{"", "ios:", "ios:a", "android:a:b", "ios:ios:a", "1", "ios:12",
		"android:\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		token, ok := parseToken(1, value)
		if ok && (im.CheckDeviceToken(token) != nil ||
			tokenPrefixes[token.Client]+token.Token != value) {
			t.Errorf("%q became %+v", value, token)
		}
	})
}
