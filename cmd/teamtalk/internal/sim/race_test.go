//go:build race

package sim

// defaultSeeds is the number of seeds of TestSeeds. A seed takes ten times the processor time
// with the race detector (2 s), and every seed runs the same code. .ci/seeds runs hundreds
// without it.
const defaultSeeds = 4

// raced says that the race detector runs.
const raced = true
