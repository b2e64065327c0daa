package lockout

import "teamtalk/core/im"

// Wrong returns the reason why an account may not log in, for metrics: "" when it may. right
// says whether its password was right. An account without an id is that of a name without a
// user.
func Wrong(a *im.Account, right bool) string {
	switch {
	case a.ID == 0:
		return "unknown"
	case !right:
		return "password"
	case a.Status != im.StatusOK:
		return "status"
	}
	return ""
}

// Origin returns the network of login i, which is empty if it is unknown, and whether the
// user of its name has logged in from it before.
func (r *Round) Origin(i int) (from string, known bool) {
	if r.marks == nil {
		return "", false
	}
	a := &r.attempts[i]
	return a.from, knownNetworks(r.marks[a.user], r.now, &r.g.opt.Limits)[a.from]
}
