package system

// offAtZero translates a setting for a handler's option. In settings 0 turns a feature
// off. In options 0 selects the default, and a negative value turns the feature off.
func offAtZero[T ~int | ~int64 | ~float64](setting T) T {
	if setting == 0 {
		return -1
	}
	return setting
}
