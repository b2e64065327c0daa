package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// conn is a logged-in connection, as light as it can be: no goroutine of its own, a small buffer made at the first read.
type conn struct {
	net.Conn
	user uint32
	r    *bufio.Reader
	head [pdu.HeaderLen]byte
	body []byte
}

// dial connects and logs in.
func dial(ctx context.Context, addr, name, password string, client pb.ClientType, timeout time.Duration) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	nc, err := dialTCP(ctx, addr)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc}
	if err := c.login(name, password, client, timeout); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *conn) login(name, password string, client pb.ClientType, timeout time.Duration) error {
	m := &pb.IMLoginReq{}
	m.SetUserName(name)
	m.SetPassword(password)
	m.SetOnlineStatus(pb.UserStatType_USER_STATUS_ONLINE)
	m.SetClientType(client)
	m.SetClientVersion("bench")
	if err := c.send(1, m); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	for {
		h, body, err := c.next()
		if err != nil {
			return fmt.Errorf("login: %w", err)
		}
		if h.Command != pb.CmdLoginRes {
			continue
		}
		var res pb.IMLoginRes
		if err := res.ParseBody(body); err != nil {
			return err
		}
		if res.GetResultCode() != 0 {
			return fmt.Errorf("login refused: %v %s", res.GetResultCode(), res.GetResultString())
		}
		c.user = res.GetUserInfo().GetUserId()
		if c.r.Buffered() == 0 {
			c.r = nil // an idle connection needs none
		}
		return c.SetReadDeadline(time.Time{})
	}
}

func (c *conn) send(seq uint16, m pb.Message) error {
	frame, err := pdu.Append(nil, seq, m)
	if err != nil {
		return err
	}
	_, err = c.Write(frame)
	return err
}

// next reads one frame. The body is valid until the next call.
func (c *conn) next() (pdu.Header, []byte, error) {
	if c.r == nil {
		c.r = bufio.NewReaderSize(c.Conn, 4096)
	}
	if _, err := io.ReadFull(c.r, c.head[:]); err != nil {
		return pdu.Header{}, nil, err
	}
	h, _, _, err := pdu.Next(c.head[:], pdu.MaxClientFrame)
	if err != nil {
		return h, nil, err
	}
	n := int(h.Length) - pdu.HeaderLen
	if cap(c.body) < n {
		c.body = make([]byte, n)
	}
	c.body = c.body[:n]
	_, err = io.ReadFull(c.r, c.body)
	return h, c.body, err
}
