// Package opt sets defaults in options: a number or a duration that is not positive means the
// default.
package opt

// Or returns v, or def when v is not positive.
func Or[T ~int | ~int64](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Default sets *v to def when it is not positive.
func Default[T ~int | ~int64](v *T, def T) { *v = Or(*v, def) }
