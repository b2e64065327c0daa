// Package ranks compares the values of several runs without assuming how they are distributed.
package ranks

import (
	"cmp"
	"slices"
)

// Spread is the median of values, the lowest and the highest.
type Spread struct{ Median, Low, High float64 }

// SpreadOf returns the spread of values, which are not empty.
func SpreadOf(values []float64) Spread {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return Spread{(v[(n-1)/2] + v[n/2]) / 2, v[0], v[n-1]}
}

// ByChance returns the probability that two samples of one distribution differ at least as much as
// a and b do, in either direction: the exact two-sided test of Mann and Whitney. It compares ranks
// alone, so a single run that was disturbed does not matter much. Equal values count half, which
// makes the result a little too large.
func ByChance(a, b []float64) float64 {
	twice := 0 // of the number of pairs in which b is higher
	for _, x := range a {
		for _, y := range b {
			twice += 1 + cmp.Compare(y, x)
		}
	}
	n, m := len(a), len(b)
	most := n * m
	lower := min(twice, 2*most-twice) / 2
	if twice%2 != 0 {
		lower++
	}
	ways, total, tail := arrangements(n, m), 0.0, 0.0
	for u, w := range ways {
		total += w
		if u <= lower {
			tail += w
		}
	}
	return min(1, 2*tail/total)
}

// arrangements returns, for each number u, how many orders of n and m values have u pairs in which
// the value of the second kind is higher.
func arrangements(n, m int) []float64 {
	// table[i] is that for i values of the first kind and those of the second so far.
	table := make([][]float64, n+1)
	for i := range table {
		table[i] = []float64{1}
	}
	for j := 1; j <= m; j++ {
		for i := 1; i <= n; i++ {
			// The highest value is of the first kind, with no pair, or of the second, with i.
			next := make([]float64, i*j+1)
			for u, w := range table[i-1] {
				next[u] += w
			}
			for u, w := range table[i] {
				next[u+i] += w
			}
			table[i] = next
		}
	}
	return table[n]
}
