// Package hash spreads integers evenly.
package hash

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
