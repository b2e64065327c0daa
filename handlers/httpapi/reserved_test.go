package httpapi

import (
	"fmt"
	"testing"

	"teamtalk/core/im"
)

// TestReservedNamesCannotBeRegistered registers names that people take for those of
// administrators.
func TestReservedNamesCannotBeRegistered(t *testing.T) {
	var store im.Store
	r := newRig(t, func(o *Options) {
		o.Register = &Register{Accounts: accounts{&store}, Open: true}
	})
	store = r.store
	register := func(want int, name, nick string) {
		t.Helper()
		r.want(want, "Register", fmt.Sprintf(`{"user_name":%q,"password":"long enough",`+
			`"nick_name":%q}`, name, nick))
	}
	for _, name := range []string{"admin", "ROOT", "sys-tem", "adm1n", "admin2"} {
		register(codeDenied, name, "Carol")
	}
	for _, nick := range []string{"admin", "аdmin", "ｒｏｏｔ", "A d m i n", "系统管理员", "ádmin"} {
		register(codeDenied, "carol", nick)
	}
	register(0, "carol", "Carol Administrator's friend")
}
