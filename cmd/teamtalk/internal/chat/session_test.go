package chat

import (
	"strings"
	"testing"

	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// TestRefusedLogin: only a refusal for the password says that the password is wrong.
func TestRefusedLogin(t *testing.T) {
	const unreachable, wrong = "the server cannot be reached", "name or password is wrong"
	for _, c := range []struct {
		code      pb.ResultType
		kind      im.Kind
		text      string
		want, not string
	}{
		{pb.ResultType_REFUSE_REASON_NO_DB_SERVER, im.Unavailable, "服务端异常", unreachable, wrong},
		{pb.ResultType_REFUSE_REASON_NO_LOGIN_SERVER, im.Unavailable, "", unreachable, wrong},
		{pb.ResultType_REFUSE_REASON_NO_ROUTE_SERVER, im.Unavailable, "", unreachable, wrong},
		{pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED, im.Denied, "用户名/密码错误", wrong, unreachable},
		{pb.ResultType_REFUSE_REASON_VERSION_TOO_OLD, im.Invalid, "too old", "too old", wrong},
	} {
		e := &tcp.LoginError{Code: c.code, Text: c.text}
		err := openError(Options{User: "alice"}, &im.Error{Kind: c.kind, Msg: "server", Err: e})
		if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), c.not) ||
			!strings.Contains(err.Error(), c.text) {
			t.Errorf("%v: %q, want %q and %q", c.code, err, c.want, c.text)
		}
	}
}
