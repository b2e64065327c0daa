//go:build !race

package sim

// defaultSeeds is the number of seeds of TestSeeds.
const defaultSeeds = 30

// raced says that the race detector runs.
const raced = false
