// Package spelling finds the names that a wrong name may stand for.
package spelling

import "strings"

// DidYouMean returns the end of an error about a wrong name that names those like it; empty for
// none.
func DidYouMean(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(names, " or ") + "?"
}

// Nearest returns up to three names with the smallest distance from name. It returns none
// when more than a quarter of the letters differ.
func Nearest(name string, names []string) []string {
	if len(name) > 64 { // longer than any setting: no typing error
		return nil
	}
	most := max(1, len(name)/4)
	best := most + 1
	var found []string
	for _, n := range names {
		if len(n)-len(name) > most || len(name)-len(n) > most {
			continue // as many letters differ at least
		}
		d := distance(name, n)
		if d < best {
			best, found = d, found[:0]
		}
		if d == best && len(found) < 3 && d <= most {
			found = append(found, n)
		}
	}
	return found
}

// distance returns the Levenshtein distance of a and b, in bytes.
func distance(a, b string) int {
	for a != "" && b != "" && a[0] == b[0] { // as with the prefix that all variables have
		a, b = a[1:], b[1:]
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
