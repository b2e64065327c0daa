package lockout

import (
	"strings"

	"teamtalk/core/im"
)

// nobody is checked in place of the account of a name without one, so that this takes the
// same time. No password has this hash.
var nobody = im.Account{Password: strings.Repeat("-", 32), Salt: "none"}

// Wrong returns the reason why an account may not log in with a password, for metrics: ""
// when it may. An account without an id is that of a name without a user. The work is the
// same for it.
func Wrong(a *im.Account, password string) string {
	known := a.ID != 0
	if !known {
		a = &nobody
	}
	right := a.Check(password)
	switch {
	case !known:
		return "unknown"
	case !right:
		return "password"
	case a.Status != im.StatusOK:
		return "status"
	}
	return ""
}
