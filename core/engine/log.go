package engine

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// logger passes gnet's messages to slog. The engine logs start and stop itself, so gnet's
// Info becomes Debug. gnet's only warning reports an event for a connection that was
// closed in the same round, which clients cause by the hundred when they connect and
// disconnect, so Warn becomes Debug as well.
//
// A loop that ends tells nobody but the logger: gnet gives its error to the next Stop, and the
// other loops run on. ended gets its message. nil: nobody asks.
type logger struct {
	log   *slog.Logger
	ended func(message string)
}

// loopEnds begins gnet's messages of a loop that ends, with an error or without.
const loopEnds = "event-loop(%d) is exiting"

// note calls ended for the message of a loop that ends, and returns the message.
func (l logger) note(format string, args []any) string {
	text := fmt.Sprintf(format, args...)
	if l.ended != nil && strings.HasPrefix(format, loopEnds) {
		l.ended(text)
	}
	return text
}

func (l logger) Debugf(format string, args ...any) { l.log.Debug(l.note(format, args)) }
func (l logger) Infof(format string, args ...any)  { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l logger) Warnf(format string, args ...any)  { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l logger) Errorf(format string, args ...any) { l.log.Error(l.note(format, args)) }
func (l logger) Fatalf(format string, args ...any) { l.log.Error(fmt.Sprintf(format, args...)) }

// cleanEOF returns nil for the error of a peer that closed the connection properly, and
// otherwise err.
func cleanEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
