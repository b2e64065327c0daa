package redisregistry

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"teamtalk/core/registry"
)

// Bounds of the registry's contents.
const (
	// maxNodes bounds the nodes of a deployment.
	maxNodes = 4096
	// maxFields is the largest number of fields of the hash: nodes, and the registry's own.
	maxFields = maxNodes + 3
	// maxRead is the largest number of fields that is read: another program may have added some.
	maxRead = 2 * maxFields
	// maxValue is the longest value: a record behind four numbers and a random number.
	maxValue = registry.MaxRecord + 96
	// maxField is the longest name of a field of a node, with some room.
	maxField = 100
)

// Entry is a node whose lease has not ended.
type Entry struct {
	registry.Node
	// Age is the time since the lease was renewed, and Left the time until it ends. Redis
	// measures both. Left stands still while no process reaches Redis, Age does not.
	Age, Left time.Duration
}

// late reports whether a renewal is overdue by a quarter of the time between two.
func (e *Entry) late() bool {
	return e.Renew > 0 && e.Age > time.Duration(e.Renew)*time.Millisecond*5/4
}

// contents are what the script read has returned.
type contents struct {
	entries []Entry
	// clock is the time since the registry was empty, as far as processes reached it.
	clock time.Duration
	// long and malformed are the numbers of values that were not accepted. why is the reason
	// for the last one.
	long, malformed int
	why             error
}

// refusal returns the reason for which the last value was not accepted; nil if all were.
func (c contents) refusal() error {
	if c.why == nil && c.long > 0 {
		return fmt.Errorf("a field of more than %d bytes, or a value of more than %d", maxField,
			maxValue)
	}
	return c.why
}

// errAnswer is the error of an answer that the scripts do not give.
var errAnswer = errors.New("unexpected answer: is another program using the key " + Key + "?")

// parse parses the answer of the script read.
func parse(answer []string) (contents, error) {
	var c contents
	if len(answer) == 2 && answer[0] == "full" {
		return c, fullError(answer[1])
	}
	if len(answer) < 4 || len(answer)%2 != 0 || answer[0] != "ok" || len(answer) > 4+2*maxRead {
		return c, errAnswer
	}
	clock, err1 := milliseconds(answer[1])
	now, err2 := milliseconds(answer[2])
	long, err3 := strconv.ParseUint(answer[3], 10, 31)
	if errors.Join(err1, err2, err3) != nil {
		return c, errAnswer
	}
	c.clock, c.long = clock, int(long)
	for i := 4; i < len(answer); i += 2 {
		e, err := parseEntry(answer[i], answer[i+1], clock, now)
		if err != nil {
			c.malformed++
			c.why = fmt.Errorf("field %.100q: %w", answer[i], err)
			continue
		}
		c.entries = append(c.entries, e)
	}
	return c, nil
}

// parseEntry parses a field of the hash with its value. clock and now are the registry's clock
// and the time of Redis.
func parseEntry(field, value string, clock, now time.Duration) (Entry, error) {
	if len(value) > maxValue {
		return Entry{}, fmt.Errorf("a value of %d bytes, more than %d", len(value), maxValue)
	}
	parts := strings.SplitN(value, " ", 5)
	if len(parts) != 5 {
		return Entry{}, errors.New("no record behind four numbers")
	}
	end, err1 := milliseconds(parts[0])
	epoch, err2 := strconv.ParseUint(parts[1], 10, 64)
	renewed, err3 := milliseconds(parts[3])
	if errors.Join(err1, err2, err3) != nil || epoch == 0 || epoch > registry.MaxEpoch {
		return Entry{}, errors.New("the end of the lease, the epoch or the time is no number")
	}
	n, err := registry.Decode(field, parts[4])
	if err != nil {
		return Entry{}, err
	}
	n.Epoch = epoch
	return Entry{Node: n, Age: max(now-renewed, 0), Left: max(end-clock, 0)}, nil
}

// milliseconds parses a number of milliseconds.
func milliseconds(s string) (time.Duration, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || n > 9e12 { // 285 years, which a Duration barely holds
		return 0, errors.New("no time in milliseconds")
	}
	return time.Duration(n) * time.Millisecond, nil
}

// fullError is the error of a registry with too many fields.
func fullError(fields string) error {
	return fmt.Errorf("the registry has %.20s fields and may have %d: does each process keep its "+
		"name when it restarts (setting node.name), and does no other program use the key %s?",
		fields, maxFields, Key)
}
