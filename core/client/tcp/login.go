package tcp

import (
	"context"
	"errors"
	"fmt"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// LoginError is the error of a login that the server refused.
type LoginError struct {
	Code pb.ResultType
	Text string // the server's text, may be empty
}

// Error returns the server's text, or the name of the code.
func (e *LoginError) Error() string {
	if e.Text != "" {
		return fmt.Sprintf("login refused: %s (%d)", e.Text, int32(e.Code))
	}
	return fmt.Sprintf("login refused: %s (%d)", e.Code, int32(e.Code))
}

// The texts that C++ servers, and db_proxies behind them, send with the code of a wrong
// password when their store fails or is busy.
const (
	textFailed = "服务端内部错误"
	textBusy   = "服务器繁忙，请稍后再试"
)

// kind classifies a refusal by its remedy: another password (Denied), another program
// (Invalid), or a later attempt (Unavailable).
func (e *LoginError) kind() im.Kind {
	switch e.Code {
	case pb.ResultType_REFUSE_REASON_DB_VALIDATE_FAILED:
		if e.Text == textFailed || e.Text == textBusy {
			return im.Unavailable
		}
		return im.Denied
	case pb.ResultType_REFUSE_REASON_VERSION_TOO_OLD:
		return im.Invalid
	}
	return im.Unavailable
}

// Credentials are the data of a login.
type Credentials struct {
	User     string
	Password string // clear; im.ClientPassword is sent
	// ClientType is the kind of this client; 0: CLIENT_TYPE_WINDOWS, a pc client. For
	// CLIENT_TYPE_ANDROID servers cut answers to 400 KiB per frame: Contacts, Departs and
	// History then return the first part of a long list.
	ClientType pb.ClientType
	Version    string // of the program, for the server's log; "" is "teamtalk/1"
	// FileRepeats says that the client recognises an IMFileNotify that it has received before.
	FileRepeats bool
}

// loginReq returns the request for a login.
func (cr Credentials) loginReq() *pb.IMLoginReq {
	if cr.ClientType == 0 {
		cr.ClientType = pb.ClientType_CLIENT_TYPE_WINDOWS
	}
	if cr.Version == "" {
		cr.Version = "teamtalk/1"
	}
	req := pb.IMLoginReq_builder{
		UserName: new(cr.User), Password: new(im.ClientPassword(cr.Password)),
		OnlineStatus: pb.UserStatType_USER_STATUS_ONLINE.Enum(), ClientType: cr.ClientType.Enum(),
		ClientVersion: new(cr.Version), UploadTickets: new(true),
	}.Build()
	if cr.FileRepeats {
		req.SetFileRepeats(true)
	}
	return req
}

// Login logs in. An error with a *LoginError in its chain is a refusal: Denied for name
// or password, Invalid for the version, Unavailable for causes that may pass. The server
// closes the connection after a refusal.
func (c *Conn) Login(ctx context.Context, cr Credentials) (*pb.IMLoginRes, error) {
	var res pb.IMLoginRes
	if err := c.Call(ctx, cr.loginReq(), &res); err != nil {
		return nil, err
	}
	if err := c.loggedIn(&res); err != nil {
		return nil, err
	}
	return &res, nil
}

// LoginThen is Login for a caller that receives pushes: then handles the answer on the
// goroutine that reads, before any later frame. A refused login does not call it.
func (c *Conn) LoginThen(ctx context.Context, cr Credentials,
	then func(res *pb.IMLoginRes)) error {
	var res pb.IMLoginRes
	return c.CallThen(ctx, cr.loginReq(), &res, func() error {
		if err := c.loggedIn(&res); err != nil {
			return err
		}
		then(&res)
		return nil
	})
}

// loggedIn handles the answer to a login.
func (c *Conn) loggedIn(res *pb.IMLoginRes) error {
	if code := res.GetResultCode(); code != pb.ResultType_REFUSE_REASON_NONE {
		e := &LoginError{Code: code, Text: res.GetResultString()}
		return &im.Error{Kind: e.kind(), Msg: "server", Err: e}
	}
	id := res.GetUserInfo().GetUserId()
	if id == 0 {
		return im.Errorf(im.Malformed, "login answer without a user")
	}
	c.user.Store(id)
	return nil
}

// Logout logs out, waits until the server answers or closes the connection, and closes
// the Conn.
func (c *Conn) Logout(ctx context.Context) error {
	err := c.Call(ctx, &pb.IMLogoutReq{}, &pb.IMLogoutRsp{})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) &&
		!errors.Is(err, context.Canceled) {
		err = nil // the server closed the connection instead of an answer
	}
	return errors.Join(err, c.Close())
}
