// Package redisdial makes clients of Redis dial whenever they need a connection.
//
// By itself go-redis counts the dials that failed. From as many as the pool is large, it
// dials once a second only, and answers all commands with the error of the last dial. So a
// server that is back, or a master that was promoted, is not used for up to a second.
package redisdial

import (
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// Always is a hook with which every connection that a client needs is dialled. It must be
// the first hook of a client: a DialHook that is added before it does not see errors.
//
// Instead of an error the pool gets a connection that fails with the error at its first
// use, and counts no error. The first use is the handshake, so no command is sent.
type Always struct{}

// DialHook returns a broken connection instead of an error.
func (Always) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return broken{err}, nil
		}
		return conn, nil
	}
}

// ProcessHook changes nothing.
func (Always) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook changes nothing.
func (Always) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// broken is a connection that could not be dialled.
type broken struct{ err error }

func (c broken) Read([]byte) (int, error)         { return 0, c.err }
func (c broken) Write([]byte) (int, error)        { return 0, c.err }
func (c broken) Close() error                     { return nil }
func (c broken) LocalAddr() net.Addr              { return nowhere{} }
func (c broken) RemoteAddr() net.Addr             { return nowhere{} }
func (c broken) SetDeadline(time.Time) error      { return nil }
func (c broken) SetReadDeadline(time.Time) error  { return nil }
func (c broken) SetWriteDeadline(time.Time) error { return nil }

// nowhere is the address of a connection that could not be dialled.
type nowhere struct{}

func (nowhere) Network() string { return "none" }
func (nowhere) String() string  { return "" }
