package chat

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// openUpload opens a file to be sent.
func openUpload(path string) (*os.File, os.FileInfo, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, nil, err
	} else if !info.Mode().IsRegular() { // before opening it: the open of a pipe blocks
		return nil, nil, fmt.Errorf("%s is not a regular file", path)
	}
	src, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := src.Stat()
	if err != nil {
		return nil, nil, errors.Join(err, src.Close())
	}
	return src, info, nil
}

// DownloadFolder returns the default folder of fetched files: Downloads in the home
// folder, else the working directory.
func DownloadFolder() string {
	if home, err := os.UserHomeDir(); err == nil {
		dir := filepath.Join(home, "Downloads")
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
	}
	return "."
}

// TypedPath returns the path of a file that a user typed, or dragged into the terminal.
// Terminals insert a dragged path as it is, in quotation marks, with backslashes, or as a
// file URL.
func TypedPath(arg string) string {
	arg = strings.TrimSpace(arg)
	if _, err := os.Lstat(arg); err == nil {
		return arg
	}
	if u, err := url.Parse(arg); err == nil && u.Scheme == "file" && u.Path != "" {
		return u.Path
	}
	if n := len(arg); n >= 2 && (arg[0] == '\'' || arg[0] == '"') && arg[n-1] == arg[0] {
		arg = strings.ReplaceAll(arg[1:n-1], `'\''`, "'")
	} else if filepath.Separator == '/' {
		arg = unescape(arg)
	}
	if rest, ok := strings.CutPrefix(arg, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	return arg
}

// unescape removes backslashes and keeps the characters behind them.
func unescape(s string) string {
	var b strings.Builder
	protected := false
	for _, r := range s {
		if r == '\\' && !protected {
			protected = true
			continue
		}
		protected = false
		b.WriteRune(r)
	}
	return b.String()
}
