// Package obs shows operators the state of a process: its log, its metrics, whether it is
// ready, and its build.
package obs

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// LogOptions configure a logger. Zero fields mean the defaults.
type LogOptions struct {
	// Level is the least important level that is logged: debug, info, warn or error.
	// Default info.
	Level string
	// Format is text (key=value) or json. Default text.
	Format string
	// Var, if not nil, is set to Level. A later change of it changes what is logged.
	Var *slog.LevelVar
}

// ParseLevel returns a level by its name; "" is info.
func ParseLevel(name string) (slog.Level, error) {
	switch strings.ToLower(name) {
	case "", "info":
		return slog.LevelInfo, nil
	case "debug":
		return slog.LevelDebug, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log level %q is not one of debug, info, warn, error", name)
}

// NewLogger makes a logger that writes one line per record to w. Keys with the same
// meaning everywhere are role, conn, user, cmd, seq and err. It returns an error for an
// unknown level or format. In json a duration is a number of seconds, under its key with _seconds
// behind: "took" becomes "took_seconds".
func NewLogger(w io.Writer, opt LogOptions) (*slog.Logger, error) {
	level, err := ParseLevel(opt.Level)
	if err != nil {
		return nil, err
	}
	if opt.Var == nil {
		opt.Var = new(slog.LevelVar)
	}
	opt.Var.Set(level)
	h := &slog.HandlerOptions{Level: opt.Var}
	switch opt.Format {
	case "", "text":
		return slog.New(slog.NewTextHandler(w, h)), nil
	case "json":
		h.ReplaceAttr = withUnit
		return slog.New(slog.NewJSONHandler(escaped{w}, h)), nil
	}
	return nil, fmt.Errorf("log format %q is neither text nor json", opt.Format)
}

// withUnit names the unit of a duration in its key. slog writes durations as nanoseconds, which no
// reader can tell from the number.
func withUnit(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.Float64(a.Key+"_seconds", a.Value.Duration().Seconds())
	}
	return a
}
