package redisconn

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/cert"
	"teamtalk/sql/rediscluster"
)

// explained returns a client whose errors of TLS say which setting to change.
func explained(i Instance, c redis.UniversalClient) redis.UniversalClient {
	if i.TLS == nil {
		return c
	}
	if nodes, ok := c.(*rediscluster.Client); ok {
		nodes.OnNewNode(func(node *redis.Client) { node.AddHook(explainer{i.TLS}) })
		return c
	}
	c.AddHook(explainer{i.TLS})
	return c
}

// explainer is a hook that explains errors of TLS.
type explainer struct{ tls *cert.Client }

// DialHook explains why there is no connection.
func (e explainer) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		var op *net.OpError
		if err != nil && !errors.As(err, &op) && errors.Is(err, context.DeadlineExceeded) {
			// A Redis without TLS may wait for the end of a line. So may one that is slow.
			return conn, &cert.HandshakeError{
				Advice: fmt.Sprintf("if %s has no TLS, turn it on there, or leave it out in the "+
					"section redis", addr),
				Err: fmt.Errorf("no answer to the TLS handshake in time: %w", err)}
		}
		return conn, e.tls.Explain(addr, err)
	}
}

// ProcessHook explains an error of a command. With TLS 1.3 a client learns only after the
// handshake that the server refuses its certificate. Behind a redisdial.Always the first
// command meets the error of the dial.
func (e explainer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err != nil && err != redis.Nil {
			err = e.tls.Explain("the server", err)
			cmd.SetErr(err)
		}
		return err
	}
}

// ProcessPipelineHook changes nothing.
func (explainer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
