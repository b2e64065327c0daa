// Package opt checks options and sets their defaults. A value with a setting has its default in
// core/config only, so options require it. Other numbers and durations have a default in the
// package that uses them, which replaces a value that is not positive.
package opt

import "fmt"

// Or returns v, or def when v is not positive.
func Or[T ~int | ~int64](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Require panics when v, a required option, is not positive: the program forgot to set it. name
// says which option it is.
func Require[T ~int | ~int64](name string, v T) {
	if v <= 0 {
		panic(fmt.Sprintf("option %s is required and must be positive, got %v", name, v))
	}
}

// Default sets *v to def when it is not positive.
func Default[T ~int | ~int64](v *T, def T) { *v = Or(*v, def) }
