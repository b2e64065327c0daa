//go:build !race

package e2e

// raceDetector says that these tests were built with the race detector.
const raceDetector = false
