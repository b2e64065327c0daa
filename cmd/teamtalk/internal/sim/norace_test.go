//go:build !race

package sim

// defaultSeeds is the number of seeds of TestSeeds.
const defaultSeeds = 30
