package redisconn

import (
	"context"
	"slices"

	"teamtalk/sql/rediscluster"

	"github.com/redis/go-redis/v9"
)

// wholeFailure is a hook of a client of one server. When a pipeline fails, each of its
// commands has an error, as with clients of a cluster.
//
// By itself go-redis gives the commands no error when the server answers the first command
// of a new connection with one: -NOAUTH after its password was changed, -BUSY while a script
// runs. The commands then look as if they had run and found nothing. Counts that were never
// added would leave the outbox.
type wholeFailure struct{}

// DialHook changes nothing.
func (wholeFailure) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook changes nothing.
func (wholeFailure) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook sets the error of a pipeline whose commands have none.
func (wholeFailure) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		failed := func(c redis.Cmder) bool { return c.Err() != nil }
		if err != nil && !slices.ContainsFunc(cmds, failed) {
			for _, c := range cmds {
				c.SetErr(err)
			}
		}
		return err
	}
}

// NodeOf returns the master of a key in a cluster, or "" if it is not known.
func NodeOf(ctx context.Context, client redis.UniversalClient, key string) string {
	c, ok := client.(*rediscluster.Client)
	if !ok {
		return ""
	}
	node, err := c.MasterForKey(ctx, key)
	if err != nil {
		return ""
	}
	return node.Options().Addr
}

// PipelineSize bounds the number of commands in a pipeline.
const PipelineSize = 2000
