//go:build linux

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"teamtalk/proto/pb"
)

// in selects an element with a name for tests inside of a dialog.
func in(dialog, name string) string { return named(dialog) + " " + named(name) }

// signsIn signs in to the page of the administrators.
func (p *person) signsIn(token string) {
	p.t.Helper()
	p.types("token", token)
	p.clicks(named("sign-in"))
}

// confirms answers the question of the page, and waits until the action is done.
func (p *person) confirms() {
	p.t.Helper()
	p.clicks(in("confirm", "submit"))
	p.sees("the action done", "!document.querySelector(%q)", named("confirm"))
}

// finds types into the search of a screen.
func (p *person) finds(text string) {
	p.t.Helper()
	p.types("search", text)
}

// TestAdminPage administers servers in a browser while clients are online: an administrator adds a
// user, which logs in, disables it, signs another one out, and dissolves a group. A token that may
// only read sees no actions, and the server refuses them.
func TestAdminPage(t *testing.T) {
	if testing.Short() {
		t.Skip("two browsers: not with -short")
	}
	t.Parallel()
	chromium := browser(t)
	takeProcessor(t)
	sys := deployAllInOne(t, settings{users: 2})
	a := startAdminAPI(t, sys)
	one, _ := loggedIn(t, sys.msgAddr[0], "u00001", android)
	group := a.call(200, "POST", "/v1/groups", `{"name":"Team","members":["u00001","u00002"]}`)

	ops := opens(t, chromium, "http://"+a.addr+"/", "ops")
	ops.signsIn("wrong")
	ops.sees("the refusal", "document.querySelector(%q)?.innerText", named("sign-in-problem"))
	ops.signsIn(a.token)
	ops.addsAndDisables(sys.msgAddr[0])

	ops.clicks(named("nav-online"))
	ops.clicks("[data-test=online-user][data-id=u00001] " + named("kick"))
	ops.confirms()
	awaited(one, &pb.IMKickUser{})
	one.closed()

	ops.clicks(named("nav-groups"))
	ops.clicks("[data-test=group][data-name=Team]")
	ops.clicks(named("dissolve"))
	ops.confirms()
	ops.sees("no members", "document.querySelector(%q)?.innerText === '0'", named("member-count"))
	path := fmt.Sprintf("/v1/groups/%v", group["id"])
	equal(t, "members", a.call(200, "GET", path, "")["count"], 0.0)

	opens(t, chromium, "http://"+a.addr+"/", "reader").mayOnlyRead(strings.TrimSpace(mustRun(t,
		"token", "add", "watch", "--role", "read-only", "--file", a.file)))

	ops.clicks(named("nav-audit"))
	ops.sees("what it did", "document.body.innerText.includes('disableUser')")
	ops.clicks(named("nav-live"))
	ops.sees("the users online", "document.querySelector(%q)?.innerText === '0'",
		named("value-users_online"))
	mustRun(t, "token", "remove", "ops", "--file", a.file)
	ops.clicks(named("nav-users"))
	ops.sees("the sign-in", "document.querySelector(%q)", named("token"))
}

// addsAndDisables adds a user, which logs in at a message server, and disables it.
func (p *person) addsAndDisables(server string) {
	t := p.t
	t.Helper()
	p.clicks(named("nav-users"))
	p.clicks(named("add-user"))
	p.types("field-name", "carol")
	p.types("field-password", "long enough")
	p.clicks(in("add-user-dialog", "submit"))
	p.sees("the new user", "document.querySelector(%q)", named("added"))
	p.clicks(named("close"))
	carol := dial(t, server)
	equal(t, "login of a new user", carol.tryLogin("carol", "long enough", android).GetResultCode(),
		pb.ResultType_REFUSE_REASON_NONE)

	p.finds("caro")
	p.clicks("[data-test=user][data-user=carol]")
	p.sees("where the user is", "document.querySelector(%q)?.innerText.includes('ANDROID')",
		named("user-where"))
	p.clicks(named("disable"))
	p.confirms()
	p.sees("the status", "document.querySelector('[data-status=disabled]')")
	awaited(carol, &pb.IMKickUser{})
	carol.closed()
	equal(t, "login of a disabled user", dial(t, server).tryLogin("carol", "long enough",
		android).GetResultCode(), pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED)
}

// mayOnlyRead signs in with a token that may only read.
func (p *person) mayOnlyRead(token string) {
	p.t.Helper()
	p.signsIn(token)
	p.clicks(named("nav-users"))
	p.clicks("[data-test=user][data-user=u00002]")
	p.sees("a user without actions", "document.querySelector('[data-test=user-status]') && "+
		"!document.querySelector('[data-test=disable], [data-test=kick], [data-test=add-user]')")
	p.sees("the refusal", `(window.asked ??= fetch("/session").then(r => r.json()).then(s =>
		fetch("/v1/users/u00002/disable", {method: "POST", headers: {"X-Csrf-Token": s.csrf}}))
		.then(r => window.answered = r.status), window.answered === 403)`)
}
