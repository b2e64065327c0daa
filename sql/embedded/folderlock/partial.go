package folderlock

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"teamtalk/core/im"
)

// A command that makes a folder fills one with a hidden name first, so that nothing incomplete has
// the name of the result, whatever ends the command.

// Hidden returns the hidden name, in the same parent folder, of a folder that will be name. end
// tells commands apart.
func Hidden(name, end string) string {
	return filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+end)
}

// claimName is the folder, inside a folder that is being filled, whose lock a command holds
// meanwhile. A store that is being restored has a lock of its own.
const claimName = ".claim"

// Claim makes an empty folder and keeps other commands from it until the result is closed.
// The error has kind Busy while another command has it, and NotFound without a parent folder.
func Claim(folder string) (io.Closer, error) {
	inner := filepath.Join(folder, claimName)
	for _, dir := range []string{folder, inner} {
		err := os.Mkdir(dir, 0o700)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, noFolder(filepath.Dir(folder))
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	lock, err := LockCommand(inner, "wait for its end")
	if im.KindOf(err) == im.Unavailable {
		return nil, im.Errorf(im.Busy, "another command is writing to %s: wait for its end", folder)
	}
	if err != nil {
		return nil, err
	}
	if err := empty(folder); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// noFolder returns the error that there is no folder to make another one in. It may be a disk that
// is not mounted, so nothing makes it.
func noFolder(parent string) error {
	return im.Errorf(im.NotFound, "the folder %s does not exist: make it, or mount its disk, first",
		parent)
}

// empty removes everything in a folder but the claim.
func empty(folder string) error {
	list, err := os.ReadDir(folder)
	for _, e := range list {
		if err == nil && e.Name() != claimName {
			err = os.RemoveAll(filepath.Join(folder, e.Name()))
		}
	}
	return err
}

// Clean removes the folders in parent whose hidden names have this end and on which no process
// works: commands that were killed left them. The error has kind NotFound when there is no parent.
func Clean(parent, end string) error {
	list, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return noFolder(parent)
	}
	if err != nil {
		return err
	}
	for _, e := range list {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), ".") || !strings.HasSuffix(e.Name(), end) {
			continue
		}
		folder := filepath.Join(parent, e.Name())
		lock, err := LockCommand(filepath.Join(folder, claimName), "wait for its end")
		switch {
		case im.KindOf(err) == im.Unavailable:
			continue // it is in use
		case errors.Is(err, fs.ErrNotExist):
			_ = os.Remove(folder) // it is empty, or was just completed
			continue
		case err == nil:
			err = errors.Join(os.RemoveAll(folder), lock.Close())
		}
		if err != nil {
			return fmt.Errorf("remove what a command left that was killed: %w", err)
		}
	}
	return nil
}

// Publish gives a complete folder its name. Nothing may have that name, and the folder must be
// on the same disk.
func Publish(partial, name string) error {
	if err := os.RemoveAll(filepath.Join(partial, claimName)); err != nil {
		return err
	}
	if err := os.Rename(partial, name); err != nil {
		return err
	}
	return Sync(filepath.Dir(name))
}
