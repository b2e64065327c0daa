package engine

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// logger passes gnet's messages to slog. The engine logs start and stop itself, so gnet's
// Info becomes Debug. gnet's only warning reports an event for a connection that was
// closed in the same round, which clients cause by the hundred when they connect and
// disconnect, so Warn becomes Debug as well.
type logger struct{ log *slog.Logger }

func (l logger) Debugf(format string, args ...any) { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l logger) Infof(format string, args ...any)  { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l logger) Warnf(format string, args ...any)  { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l logger) Errorf(format string, args ...any) { l.log.Error(fmt.Sprintf(format, args...)) }
func (l logger) Fatalf(format string, args ...any) { l.log.Error(fmt.Sprintf(format, args...)) }

// cleanEOF returns nil for the error of a peer that closed the connection properly, and
// otherwise err.
func cleanEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
