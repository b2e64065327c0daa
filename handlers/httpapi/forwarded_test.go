package httpapi

import (
	"net/netip"
	"testing"

	"teamtalk/core/origin"
	"teamtalk/core/web"
	"teamtalk/core/web/webtest"
)

// TestForwardedKeys calls through a trusted proxy. Wrong keys count for the client's address,
// and networks of apps and of registration apply to it. A client that the proxy does not name is
// in no network.
func TestForwardedKeys(t *testing.T) {
	office := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	proxies := origin.Networks{netip.MustParsePrefix("127.0.0.0/8")}
	const hereKey, openKey = "the key of the network of proxies", "the key for all networks"
	r := newRigOn(t, func(o *Options) {
		o.Apps = []App{{Name: "all", Key: goodKey, Rate: 1e6, Networks: office},
			{Name: "here", Key: hereKey, Rate: 1e6, Networks: proxies},
			{Name: "open", Key: openKey, Rate: 1e6}}
		o.Register = &Register{Open: true, Networks: office}
	}, web.Options{Forwarders: proxies})
	ask := func(call, from, key string) int {
		return code(webtest.Raw(t, r.web, post(call, "X-Forwarded-For: "+from+"\n",
			`{"app_key":"`+key+`"}`)))
	}
	for i := range triesAtOnce + 1 {
		want := codeKey
		if i == triesAtOnce {
			want = codeTooMany
		}
		if got := ask("KickUser", "192.0.2.1", "wrong"); got != want {
			t.Errorf("wrong key %d: code %d, want %d", i, got, want)
		}
	}
	if got := ask("KickUser", "192.0.2.2", "wrong"); got != codeKey {
		t.Errorf("a wrong key of another client: code %d", got)
	}
	for _, from := range []string{"192.0.2.1", "198.51.100.1, 192.0.2.3"} {
		if got := ask("KickUser", from, goodKey); got == codeKey || got == codeTooMany {
			t.Errorf("the right key from %s: code %d", from, got)
		}
	}
	if got := ask("KickUser", "192.0.2.3, 198.51.100.1", goodKey); got != codeKey {
		t.Errorf("the right key from another network: code %d", got)
	}
	for _, from := range []string{"unknown", "", "192.0.2.1, unknown", "192.0.2.300", "::1,"} {
		if got := ask("KickUser", from, hereKey); got != codeKey {
			t.Errorf("the key of the network of the proxy from %q: code %d", from, got)
		}
		if got := ask("KickUser", from, openKey); got == codeKey || got == codeTooMany {
			t.Errorf("the key without networks from %q: code %d", from, got)
		}
	}
	direct := code(webtest.Raw(t, r.web, post("KickUser", "", `{"app_key":"`+hereKey+`"}`)))
	if direct == codeKey || direct == codeTooMany {
		t.Errorf("a program on the machine of the proxy: code %d", direct)
	}
	if got := ask("Register", "192.0.2.1", ""); got != codeBad {
		t.Errorf("registration without a name from its network: code %d", got)
	}
	if got := ask("Register", "198.51.100.1", ""); got != codeClosed {
		t.Errorf("registration from another network: code %d", got)
	}
}
