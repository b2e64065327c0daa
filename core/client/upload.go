package client

import (
	"context"
	"time"

	"teamtalk/core/client/loginserver"
	"teamtalk/core/im"
	"teamtalk/core/sound"
	"teamtalk/proto/pb"
)

// uploadTimeout bounds an upload. A small file has 10 MiB by default, and the server closes
// uploads that are slower than 4 KiB/s.
const uploadTimeout = time.Hour

// UploadTicket returns a ticket for uploads of at most size bytes to the small file server,
// see package ticket. It is empty when the message server gives none.
func (c *Client) UploadTicket(ctx context.Context, size int) (string, error) {
	c.mu.Lock()
	given := c.tickets
	c.mu.Unlock()
	if !given { // another server does not answer
		return "", nil
	}
	var rsp pb.IMUploadTicketRsp
	req := pb.IMUploadTicketReq_builder{MaxSize: new(uint32(size))}.Build()
	if err := c.call(ctx, req, &rsp); err != nil {
		return "", err
	}
	if code := rsp.GetResultCode(); code != 0 {
		return "", im.Errorf(im.Denied, "the message server gives no upload ticket: code %d", code)
	}
	return rsp.GetTicket(), nil
}

// Upload uploads a small file, such as a picture, with a ticket when the message server gives
// them, and returns the URL of the file. server is the URL of the small file server; empty: the
// one that the login server names. The error is of kind Unavailable when the small file server
// refuses the file.
func (c *Client) Upload(ctx context.Context, server, name string, data []byte) (string, error) {
	var err error
	if server == "" {
		if server, err = loginserver.SmallFiles(ctx, c.opts.HTTP, c.opts.Server); err != nil {
			return "", err
		}
	}
	token, err := c.UploadTicket(ctx, len(data))
	if err != nil {
		return "", err
	}
	o := sound.HTTPOptions{URL: server, MaxSize: len(data), Timeout: uploadTimeout,
		Client: c.opts.HTTP}
	if token != "" {
		o.Ticket = func(int) string { return token }
	}
	h, err := sound.NewHTTP(o)
	if err != nil {
		return "", err
	}
	return h.Put(ctx, name, data)
}
