package msfs

import (
	"context"
	"time"

	"teamtalk/core/blob"
)

// Files is a number of files and their size.
type Files struct{ Files, Bytes int64 }

func (f *Files) add(a blob.Age) {
	f.Files++
	f.Bytes += a.Size
}

// Expirable tells which files of a store would expire.
type Expirable struct {
	Since       time.Time // downloads are known from then on; zero: not yet
	All         Files
	NeverRead   Files // as far as is known
	Unused, Old Files // these would expire
}

// DryRun finds the files of a store that would expire at now. It calls visit for each of them,
// with the reason, and changes nothing.
func DryRun(ctx context.Context, store blob.Ager, rule Expiry, now time.Time,
	visit func(name, reason string) error) (found Expirable, err error) {
	state, err := readState(ctx, store)
	if err != nil {
		return found, err
	}
	found.Since = state.Since
	since := state.Since
	if since.IsZero() {
		since = now // as the server does when it is switched on
	}
	err = store.Ages(ctx, expiryFolder, "", func(a blob.Age) error {
		if a.Stored.IsZero() {
			return nil
		}
		found.All.add(a)
		if a.Read.IsZero() {
			found.NeverRead.add(a)
		}
		reason := rule.due(a, since, now)
		switch reason {
		case expiredUnused:
			found.Unused.add(a)
		case expiredOld:
			found.Old.add(a)
		default:
			return nil
		}
		return visit(a.Name, reason)
	})
	return found, err
}
