package rediswhereabouts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"teamtalk/core/registry"
	"teamtalk/core/whereabouts"
	"teamtalk/sql/store/redisconn"
)

// Refused counts the values in hashes that are no entries and were left out.
type Refused struct {
	Long, Malformed int
	Why             error // the reason for one of them; nil: none was left out
}

// malformed counts a value.
func (r *Refused) malformed(key, field string, err error) {
	r.Malformed++
	r.Why = fmt.Errorf("field %.100q of %s: %w", field, key, err)
}

// long counts values that are too long.
func (r *Refused) long(key string, n int) {
	if n > 0 {
		r.Long += n
		r.Why = fmt.Errorf("%s: a name of more than %d bytes, or a value of more than %d", key,
			registry.MaxName, maxValue)
	}
}

// errAnswer is the error of an answer that the scripts do not give.
var errAnswer = errors.New("unexpected answer of the script")

// fullError is the error of a hash with too many fields.
func fullError(key, fields string) error {
	return fmt.Errorf("the key %s has %.20s fields and may have %d: if another program writes it, "+
		"end that and delete the key", key, fields, maxFields)
}

// resultOf returns what the answer of the script update says of a user.
func resultOf(by whereabouts.Node, key string, answer []string,
	refused *Refused) (r whereabouts.Result) {
	if len(answer) == 2 && answer[0] == "full" {
		r.Err = fullError(key, answer[1])
		return r
	}
	if len(answer) == 2 && answer[0] == "replaced" {
		epoch, err := strconv.ParseUint(answer[1], 10, 64)
		if r.Err = errAnswer; err == nil {
			r.Err = &whereabouts.ReplacedError{Node: by, By: epoch}
		}
		return r
	}
	if len(answer) < 4 || len(answer)%2 != 0 || answer[0] != "ok" ||
		len(answer) > 4+2*maxFields {
		r.Err = errAnswer
		return r
	}
	version, err1 := strconv.ParseUint(answer[1], 10, 63)
	long, err2 := strconv.ParseUint(answer[3], 10, 31)
	if errors.Join(err1, err2) != nil || version == 0 {
		r.Err = errAnswer
		return r
	}
	r.Version = version
	refused.long(key, int(long))
	if answer[2] != "" {
		before := entriesOf(key, []string{by.Name, answer[2]}, refused)
		if len(before) == 1 && before[0].Epoch == by.Epoch {
			r.Before = before[0].Devices
		}
	}
	r.Others = entriesOf(key, answer[4:], refused)
	return r
}

// entriesOf returns the entries among pairs of a field and its value, sorted by name.
func entriesOf(key string, pairs []string, refused *Refused) []whereabouts.Entry {
	var list []whereabouts.Entry
	for i := 0; i+1 < len(pairs); i += 2 {
		field, value := pairs[i], pairs[i+1]
		if field == versionField {
			continue
		}
		if len(field) > registry.MaxName || len(value) > maxValue {
			refused.long(key, 1)
			continue
		}
		e, err := whereabouts.Decode(field, value)
		if err != nil {
			refused.malformed(key, field, err)
			continue
		}
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b whereabouts.Entry) int {
		return strings.Compare(a.Name, b.Name)
	})
	return slices.CompactFunc(list, func(a, b whereabouts.Entry) bool { return a.Name == b.Name })
}

// Asked is a question for a user's whereabouts, in a pipeline.
type Asked struct {
	user   uint32
	answer *redis.ScanCmd
}

// Ask adds the question to a pipeline. It is one command on one key, and reads a bounded part of
// the hash in one step.
func Ask(ctx context.Context, p redis.Pipeliner, user uint32) Asked {
	return Asked{user, p.HScan(ctx, Key(user), 0, "", maxFields)}
}

// Found returns the answer, after the pipeline was run, and counts in refused what it leaves out.
func (a Asked) Found(refused *Refused) (f whereabouts.Found) {
	pairs, cursor, err := a.answer.Result()
	switch {
	case err != nil:
		f.Err = explain(Key(a.user), err)
	case cursor != 0 || len(pairs) > 2*maxFields:
		f.Err = fullError(Key(a.user), fmt.Sprint(len(pairs)/2, " or more"))
	default:
		f.Entries = entriesOf(Key(a.user), pairs, refused)
	}
	return f
}

// explain says what to do about an error.
func explain(key string, err error) error {
	if redisconn.WrongType(err) {
		return fmt.Errorf("another program has written the key %s: delete it: %w", key, err)
	}
	return err
}
