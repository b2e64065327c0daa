package rediswhereabouts

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/backoff"
	"teamtalk/sql/store/redisconn"
)

const (
	// markKey is the begin of the keys of marks, behind which a number follows. Each server has a
	// mark, a random text. It is gone when the server was emptied.
	markKey = "teamtalk:where:mark"
	// markTries bounds the keys that are tried to find one of a server's slots. A master of n has
	// one key of n, and of 100 masters each has one of these with a probability of 99.99 %.
	markTries = 1000
	// settleTime is how long writes to a former master may still succeed after its successor was
	// seen: package redissentinel ends such connections after two seconds at most.
	settleTime = 3 * time.Second
	// retries is the number of looks within Poll when Redis is away.
	retries = 4
)

// server is what is known of a server.
type server struct {
	run  string // its run id, which each start of it changes; "": INFO is not permitted
	slot int    // number of its mark
	mark string
}

// watch looks for losses. The servers are those of the last look, by address.
type watch struct {
	s *Store

	mu      sync.Mutex
	servers map[string]server
}

func newWatch(s *Store) *watch { return &watch{s: s, servers: map[string]server{}} }

// Watch calls lost whenever Redis may have lost entries that this process has written before: the
// caller then writes all of its users again. The first call is after the first look at Redis, so
// that no loss before it is missed. A look costs a round trip to each master. Losses that follow
// each other may be one call. The calls are made from this goroutine, until ctx ends.
func (s *Store) Watch(ctx context.Context, lost func()) {
	w := newWatch(s)
	var again time.Time // when the loss by a replaced server is told again; zero: none was
	for {
		first := len(w.servers) == 0
		emptied, replaced, err := w.look(ctx)
		if ctx.Err() != nil {
			return
		}
		s.note(opWatch, err)
		if err != nil {
			s.metrics.failures.WithLabelValues(opWatch).Inc()
		}
		late := !again.IsZero() && !time.Now().Before(again)
		if late {
			again = time.Time{}
		}
		if replaced && !first {
			again = time.Now().Add(s.settle)
		}
		if emptied || replaced || late {
			s.metrics.losses.Inc()
			lost()
		}
		if s.pause(ctx, err) != nil {
			return
		}
	}
}

// pause waits until the next look, between 80 and 100 % of the interval, so that processes that
// start together spread.
func (s *Store) pause(ctx context.Context, err error) error {
	pause := s.opt.Poll
	if err != nil {
		pause /= retries
	}
	return backoff.Sleep(ctx, pause-time.Duration(0.2*mathrand.Float64()*float64(pause)))
}

// look looks at each server. emptied says that one has lost its mark, and replaced that one was
// started anew or is new among the masters.
func (w *watch) look(ctx context.Context) (emptied, replaced bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.s.opt.Timeout)
	defer cancel()
	old := w.servers
	w.servers = make(map[string]server, len(old))
	_, errs := redisconn.EachServer(ctx, w.s.client, func(ctx context.Context,
		node *redis.Client) error {
		addr := node.Options().Addr
		was, known := old[addr]
		now, err := w.lookAt(ctx, node, was)
		w.mu.Lock()
		defer w.mu.Unlock()
		if err != nil {
			if known {
				w.servers[addr] = was
			}
			return err
		}
		w.servers[addr] = now
		switch {
		case !known || now.run != was.run:
			replaced = true
			w.s.opt.Log.Info("a server of Redis is new, or was restarted: it may lack "+
				"whereabouts, which are written again", "server", addr, "run_id", now.run)
		case now.slot == was.slot && now.mark != was.mark:
			emptied = true
			w.s.opt.Log.Warn("Redis was emptied: the whereabouts are written again",
				"server", addr)
		}
		return nil
	})
	if len(w.servers) == 0 { // no slot map, so it is not known which servers are masters
		w.servers = old
	}
	return emptied, replaced, errors.Join(errs...)
}

var runID = regexp.MustCompile(`(?m)^run_id:(\w+)`)

// lookAt looks at a server; was is what is known of it.
func (w *watch) lookAt(ctx context.Context, node *redis.Client, was server) (server, error) {
	now := was
	for ; now.slot < markTries; now.slot++ {
		key := markKey + strconv.Itoa(now.slot)
		var info, mark *redis.StringCmd
		// Each command has its own error.
		_, _ = node.Pipelined(ctx, func(p redis.Pipeliner) error {
			info = p.Info(ctx, "server")
			mark = p.Get(ctx, key)
			return nil
		})
		if err := info.Err(); err != nil && !redis.HasErrorPrefix(err, "NOPERM") {
			return server{}, err
		}
		if now.run = ""; info.Err() == nil {
			if m := runID.FindStringSubmatch(info.Val()); m != nil {
				now.run = m[1]
			}
		}
		err := mark.Err()
		if err == redis.Nil {
			now.mark, err = newMark(ctx, node, key)
		} else {
			now.mark = mark.Val()
		}
		if moved(err) {
			continue
		}
		if err != nil {
			return server{}, fmt.Errorf("%s: %w", key, err)
		}
		return now, nil
	}
	return server{run: now.run}, nil // a master without slots, which can lose nothing
}

// moved reports whether a server refused a key because it does not serve its slot.
func moved(err error) bool {
	return redis.HasErrorPrefix(err, "MOVED") || redis.HasErrorPrefix(err, "ASK")
}

// newMark sets the mark of a server, unless another process has set it meanwhile, and returns it.
func newMark(ctx context.Context, node *redis.Client, key string) (string, error) {
	var random [8]byte
	rand.Read(random[:])
	var mark *redis.StringCmd
	_, err := node.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.SetNX(ctx, key, hex.EncodeToString(random[:]), 0)
		mark = p.Get(ctx, key)
		return nil
	})
	return mark.Val(), err
}
