// Package hash spreads integers evenly, and keys over servers.
package hash

import "hash/fnv"

// Mix returns a permutation of the 64-bit numbers that spreads the bits of numbers that
// differ little: the finalizer of splitmix64. Its results must not change, because servers
// of all versions select the same peer for a key with it.
func Mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// step is the increment of splitmix64's state.
const step = 0x9e3779b97f4a7c15

// Next returns the output of splitmix64 for the state x. Unlike Mix, it does not map 0 to
// 0. The remark on the results of Mix holds.
func Next(x uint64) uint64 { return Mix(x + step) }

// Name returns the part of a server's weight that its name gives: 64-bit FNV-1a. The remark on
// the results of Mix holds.
func Name(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails
	return h.Sum64()
}

// Choose selects one of n candidates for a key by rendezvous hashing. Each candidate has
// a weight computed from the key and its hash, and the usable candidate with the greatest
// weight is selected. So when a candidate fails, only its own keys move, and when one
// joins, it takes only its own. It returns -1 when no candidate is usable.
func Choose(key uint64, n int, hashOf func(i int) uint64, usable func(i int) bool) int {
	best, weight := -1, uint64(0)
	for i := range n {
		if !usable(i) {
			continue
		}
		if w := Next(key ^ Next(hashOf(i))); best < 0 || w > weight {
			best, weight = i, w
		}
	}
	return best
}
