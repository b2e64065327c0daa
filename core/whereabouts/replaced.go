package whereabouts

import "fmt"

// ReplacedError is the Err of an update by a process whose node a later process has: nothing was
// written.
type ReplacedError struct {
	Node Node   // of the process that wrote
	By   uint64 // epoch of the later process
}

// Error names the node and both epochs.
func (e *ReplacedError) Error() string {
	return fmt.Sprintf("another process is node %s with epoch %d, later than this one with %d",
		e.Node.Name, e.By, e.Node.Epoch)
}
