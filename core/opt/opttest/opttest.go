// Package opttest completes options in tests. Values that have a setting have their default in
// core/config only; options take the value of the setting. A test states the values that it is
// about, and takes the others from the settings' defaults.
package opttest

import "reflect"

// Fill returns given with each zero field replaced by the field of defaults. T is a struct. A
// test that needs a zero value sets it after the call.
func Fill[T any](given, defaults T) T {
	v, d := reflect.ValueOf(&given).Elem(), reflect.ValueOf(defaults)
	for i := range v.NumField() {
		if f := v.Field(i); f.CanSet() && f.IsZero() {
			f.Set(d.Field(i))
		}
	}
	return given
}
