// Package folderlock admits one server, or one command that replaces the data, to the folder of an
// embedded store.
package folderlock

import "errors"

// ErrCommand is in the chain of the error of Lock and LockCommand while a command has the lock: it
// makes or updates the store, or replaces the folder.
var ErrCommand = errors.New("a command is working on it: wait for its end")
