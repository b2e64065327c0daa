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
	// Var, if given, is set to Level, and changes the level later.
	Var *slog.LevelVar
	// Format is text (key=value) or json. Default text.
	Format string
}

// NewLogger makes a logger that writes one line per record to w. Keys with the same
// meaning everywhere are role, conn, user, cmd, seq and err. It returns an error for an
// unknown level or format.
func NewLogger(w io.Writer, opt LogOptions) (*slog.Logger, error) {
	level, err := ParseLevel(opt.Level)
	if err != nil {
		return nil, err
	}
	h := &slog.HandlerOptions{Level: level}
	if opt.Var != nil {
		opt.Var.Set(level)
		h.Level = opt.Var
	}
	switch opt.Format {
	case "", "text":
		return slog.New(slog.NewTextHandler(w, h)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(escaped{w}, h)), nil
	}
	return nil, fmt.Errorf("log format %q is neither text nor json", opt.Format)
}

// ParseLevel parses a level: debug, info, warn or error, and nothing for info.
func ParseLevel(text string) (slog.Level, error) {
	switch strings.ToLower(text) {
	case "", "info":
		return slog.LevelInfo, nil
	case "debug":
		return slog.LevelDebug, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log level %q is not one of debug, info, warn, error", text)
}
