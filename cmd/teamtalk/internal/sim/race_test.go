//go:build race

package sim

// defaultSeeds is the number of seeds of TestSeeds. A seed takes ten times the processor time
// with the race detector, and every seed runs the same code. .ci/seeds runs hundreds
// without it.
const defaultSeeds = 10

// raced says that the race detector runs.
const raced = true
