package engine

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// logger gives gnet's messages to slog. Its chatter at start and stop is ours to say, so it goes down a level. So do its warnings: the only one is of
// an event for a connection that was closed in the same round, which clients that come and go cause by the hundred.
type logger struct{ log *slog.Logger }

func (l logger) Debugf(format string, args ...any) { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l logger) Infof(format string, args ...any)  { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l logger) Warnf(format string, args ...any)  { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l logger) Errorf(format string, args ...any) { l.log.Error(fmt.Sprintf(format, args...)) }
func (l logger) Fatalf(format string, args ...any) { l.log.Error(fmt.Sprintf(format, args...)) }

// cleanEOF is nil when the other side closed in good order.
func cleanEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
