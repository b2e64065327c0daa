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
}

// NewLogger makes a logger that writes one line per record to w. Keys with the same
// meaning everywhere are role, conn, user, cmd, seq and err. It returns an error for an
// unknown level or format.
func NewLogger(w io.Writer, opt LogOptions) (*slog.Logger, error) {
	var level slog.Level
	switch strings.ToLower(opt.Level) {
	case "", "info":
		level = slog.LevelInfo
	case "debug":
		level = slog.LevelDebug
	case "warn":
		level = slog.LevelWarn
	case "error":
		level = slog.LevelError
	default:
		return nil, fmt.Errorf("log level %q is not one of debug, info, warn, error", opt.Level)
	}
	h := &slog.HandlerOptions{Level: level}
	switch opt.Format {
	case "", "text":
		return slog.New(slog.NewTextHandler(w, h)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(escaped{w}, h)), nil
	}
	return nil, fmt.Errorf("log format %q is neither text nor json", opt.Format)
}
