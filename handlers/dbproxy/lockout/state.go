package lockout

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"teamtalk/core/im"
)

// State says from where a name is locked.
type State struct {
	// Networks are the networks with wrong passwords for the name that still count, and
	// those from which its user has logged in.
	Networks []NetworkState
	// Spread is how many different wrong passwords from networks that are not known count.
	Spread int
	// LockedUntil is when the name is open again for networks that are not known. Zero: it
	// is open.
	LockedUntil time.Time
}

// NetworkState is the state of a name for one network.
type NetworkState struct {
	Network     string    // such as 192.0.2.0/24; empty for clients of an unknown address
	Failed      int       // different wrong passwords
	LockedUntil time.Time // when the name is open again for the network. Zero: it is open
	Login       time.Time // the last login that was noted. Zero: none
}

// Inspect returns the state of a name and of its user (0: none). Counts in the memory of a
// db_proxy whose store did not answer are not included.
func Inspect(ctx context.Context, store Store, limits Limits, now time.Time, name string,
	user uint32) (State, error) {
	keys, err := store.NameKeys(ctx, []string{name})
	if err != nil {
		return State{}, err
	}
	lists, err := store.LoginMarks(ctx, []im.LoginMarkKey{nameKey(keys[0]), userKey(user)})
	if err != nil {
		return State{}, err
	}
	at := uint32(now.Unix())
	known := knownNetworks(lists[1], at, &limits)
	var order []string
	failed, spread, logins := map[string][]uint32{}, map[string]uint32{}, map[string]uint32{}
	for _, m := range lists[0] {
		if len(m.Value) < 2 {
			continue
		}
		password, from := m.Value[:2], m.Value[2:]
		if within(m, at, limits.Window) {
			order, failed[from] = append(order, from), append(failed[from], m.At)
		}
		if !known[from] && within(m, at, limits.NameWindow) {
			spread[password] = max(spread[password], m.At)
		}
	}
	for _, m := range lists[1] {
		if from := fromMark(m); known[from] {
			order, logins[from] = append(order, from), m.At
		}
	}
	s := State{Spread: len(spread)}
	slices.Sort(order)
	for _, from := range slices.Compact(order) {
		n := NetworkState{Network: networkText(from), Failed: len(failed[from]),
			LockedUntil: opens(failed[from], limits.Attempts, limits.Window)}
		if logins[from] != 0 {
			n.Login = time.Unix(int64(logins[from]), 0)
		}
		s.Networks = append(s.Networks, n)
	}
	if limits.Attempts > 0 {
		times := make([]uint32, 0, len(spread))
		for _, t := range spread {
			times = append(times, t)
		}
		s.LockedUntil = opens(times, limits.NameAttempts, limits.NameWindow)
	}
	return s, nil
}

// NetworkStore is the part of im.LoginStore that LockedNetworks needs.
type NetworkStore interface {
	Store
	FailureNetworks(ctx context.Context) ([]string, error)
}

// LockedNetwork is a network that is locked for names that are not known there.
type LockedNetwork struct {
	Network     string // such as 192.0.2.0/24
	Failed      int    // different wrong passwords
	LockedUntil time.Time
}

// networksAtOnce is how many networks LockedNetworks reads together.
const networksAtOnce = 256

// LockedNetworks returns the networks whose lock keeps a user (0: none) from logging in there,
// those that open last first. Counts in the memory of a db_proxy whose store did not answer are
// not included.
func LockedNetworks(ctx context.Context, store NetworkStore, limits Limits, now time.Time,
	user uint32) ([]LockedNetwork, error) {
	keys := []im.LoginMarkKey{userKey(user)}
	lists, err := store.LoginMarks(ctx, keys)
	if err != nil {
		return nil, err
	}
	at := uint32(now.Unix())
	known := map[string]bool{}
	for from := range knownNetworks(lists[0], at, &limits) {
		known[networkText(from)] = true
	}
	names, err := store.FailureNetworks(ctx)
	if err != nil {
		return nil, err
	}
	var locked []LockedNetwork
	for chunk := range slices.Chunk(names, networksAtOnce) {
		keys = keys[:0]
		for _, n := range chunk {
			keys = append(keys, im.LoginMarkKey{Kind: im.FailuresOfNetwork, Key: n})
		}
		if lists, err = store.LoginMarks(ctx, keys); err != nil {
			return nil, err
		}
		for i, n := range chunk {
			var times []uint32
			for _, m := range lists[i] {
				if within(m, at, limits.Window) {
					times = append(times, m.At)
				}
			}
			until := opens(times, limits.NetworkAttempts, limits.Window)
			if !until.IsZero() && !known[n] {
				locked = append(locked, LockedNetwork{n, len(times), until})
			}
		}
	}
	slices.SortFunc(locked, func(a, b LockedNetwork) int {
		return cmp.Or(b.LockedUntil.Compare(a.LockedUntil), cmp.Compare(a.Network, b.Network))
	})
	return locked, nil
}

// opens returns when fewer than limit of the failures at some times count; the zero value
// when that is so already.
func opens(times []uint32, limit int, window time.Duration) time.Time {
	if !reached(len(times), limit) {
		return time.Time{}
	}
	slices.Sort(times)
	return time.Unix(int64(times[len(times)-limit]), 0).Add(window)
}

// Unlock forgets the wrong passwords for a name.
func Unlock(ctx context.Context, store Store, name string) error {
	keys, err := store.NameKeys(ctx, []string{name})
	if err != nil {
		return err
	}
	return store.ChangeLoginMarks(ctx, []im.LoginMarkDrop{{LoginMarkKey: nameKey(keys[0])}}, nil)
}

// UnlockNetwork forgets the wrong passwords from the network of an address, and returns the
// network. Names stay locked for it.
func UnlockNetwork(ctx context.Context, store Store, addr netip.Addr) (string, error) {
	_, text := network(addr)
	if text == "" {
		return "", im.Errorf(im.Invalid, "no address is given")
	}
	return text, store.ChangeLoginMarks(ctx, []im.LoginMarkDrop{{LoginMarkKey: im.LoginMarkKey{
		Kind: im.FailuresOfNetwork, Key: text}}}, nil)
}
