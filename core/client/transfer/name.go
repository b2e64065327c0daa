package transfer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"teamtalk/core/im"
)

// maxCleanName is the longest result of CleanName, in bytes. File systems allow 255,
// and suffixes are added.
const maxCleanName = 200

// CleanName returns a safe name for a file in a folder. Beyond im.CleanFileName, which
// servers of ours use, it removes or replaces characters that file systems or terminals
// interpret, leading dots, and names of devices on any system. The result has at most 200
// bytes, and is "file" when no character remains.
func CleanName(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune(`<>"|?*`, r):
			return '_'
		case unicode.IsSpace(r):
			return ' '
		}
		return r
	}, im.CleanFileName(name))
	name = strings.TrimLeft(name, ". ")
	if strings.HasPrefix(name, "-") { // programs would take it for an option
		name = "_" + name[1:]
	}
	if stem, _, _ := strings.Cut(name, "."); deviceName(strings.TrimSpace(stem)) {
		name = "_" + name
	}
	if name = strings.TrimRight(shortName(name), ". "); name == "" {
		return "file"
	}
	return name
}

// deviceName reports whether Windows takes a name for a device, with any extension.
func deviceName(stem string) bool {
	stem = strings.ToUpper(stem)
	switch stem {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	digits, found := strings.CutPrefix(stem, "COM")
	if !found {
		digits, found = strings.CutPrefix(stem, "LPT")
	}
	return found && utf8.RuneCountInString(digits) == 1 &&
		strings.ContainsAny(digits, "0123456789¹²³")
}

// shortName cuts a name that is too long before its extension.
func shortName(name string) string {
	if len(name) <= maxCleanName {
		return name
	}
	ext := filepath.Ext(name)
	if len(ext) > 20 {
		ext = ""
	}
	stem := name[:maxCleanName-len(ext)]
	for !utf8.ValidString(stem) {
		stem = stem[:len(stem)-1]
	}
	return stem + ext
}

// partName returns the name of a file that is not complete. It is the same for the same
// task and differs for others.
func partName(f File) string {
	sum := sha256.Sum256([]byte(f.Task))
	return CleanName(f.Name) + "." + hex.EncodeToString(sum[:4]) + ".part"
}

// maxNumber is the most files with one name in a folder.
const maxNumber = 10_000

// settle gives a complete file its name, with a number when the name exists, and returns
// its path. It never overwrites a file.
func settle(part, name string) (string, error) {
	dir, ext := filepath.Dir(part), filepath.Ext(name)
	stem := strings.TrimSuffix(name, ext)
	for n := 0; n < maxNumber; n++ {
		path := filepath.Join(dir, name)
		if n > 0 {
			path = filepath.Join(dir, fmt.Sprintf("%s (%d)%s", stem, n, ext))
		}
		err := takeName(part, path)
		if err == nil || !errors.Is(err, fs.ErrExist) {
			return path, err
		}
	}
	return "", fmt.Errorf("%d files are called %s already", maxNumber, name)
}

// takeName moves a file to a path. fs.ErrExist when the path exists.
func takeName(part, path string) error {
	err := os.Link(part, path)
	if err == nil {
		return os.Remove(part)
	}
	if errors.Is(err, fs.ErrExist) {
		return err
	}
	// This file system has no hard links: an empty file reserves the name until the
	// rename replaces it.
	hold, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(hold.Close(), os.Rename(part, path)); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
