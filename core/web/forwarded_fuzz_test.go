package web

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"teamtalk/core/origin"
)

// FuzzForwarded sends a header of a client through a proxy, which adds its element in one of the
// forms of RFC 7239. The client's part never changes what the proxy says.
func FuzzForwarded(f *testing.F) {
	for _, sent := range []string{"", "for=192.0.2.9", `for="`, `for="\`, `for=6.6.6.6;by="`,
		`x=\"`, `for="[2001:db8::9]:80";host="a,b;c\"d"`, "for=unknown;;", "=", `"`,
		`by="",for=6.6.6.6`, `;for=6.6.6.6;y="`, `\\`} {
		for i := range 5 {
			f.Add(sent, "a.example", uint8(i))
			f.Add(sent, `a,for=6.6.6.6;for="\`, uint8(i))
		}
	}
	s := &Server{opt: Options{ClientHeader: HeaderForwarded,
		Forwarders: origin.Networks{netip.MustParsePrefix("10.0.0.0/8")}}}
	f.Fuzz(func(t *testing.T, sent, host string, form uint8) {
		quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(host)
		element, want := "", "192.0.2.1"
		switch form % 5 {
		case 0:
			element = "for=192.0.2.1"
		case 1:
			element = `for="192.0.2.1:4711";proto=http;host="` + quoted + `"`
		case 2:
			element, want = `host="`+quoted+`";For="[2001:db8::1]"`, "2001:db8::1"
		case 3:
			element, want = `by=_x;for="[2001:db8::1]:80";secret="`+quoted+`"`, "2001:db8::1"
		case 4:
			element = "for=192.0.2.1, for=10.1.1.1;by=10.2.2.2"
		}
		for name, lines := range map[string][]string{
			"appended":       {sent + ", " + element},
			"line":           {sent, element},
			"lines of other": {"for=6.6.6.6", sent + "," + element},
		} {
			got := s.clientOf(http.Header{"Forwarded": lines})
			if got.String() != want {
				t.Errorf("%s, %q: client %v, want %s", name, lines, got, want)
			}
		}
		if got := s.clientOf(http.Header{"Forwarded": {sent}}); got.Zone() != "" || got.Is4In6() {
			t.Errorf("%q: client %v", sent, got)
		}
	})
}
