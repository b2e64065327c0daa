// Package batch passes elements from many producers to one consumer, which takes all waiting
// elements at once. Mailboxes and write buffers use it.
package batch

// Buffer is a pair of slices: producers append to one of them while the consumer works on the
// other. The zero value is ready. The owner's lock guards Waiting and Take.
type Buffer[T any] struct {
	// Waiting holds the elements that the next Take returns. Producers append to it.
	Waiting []T
	taken   []T
}

// Take returns the waiting elements and leaves an empty slice in their place. From here on the
// consumer must not use the slice that the previous Take returned, because its memory is reused. It
// is released instead when it has room for more than keep elements, so that memory from a flood is
// not kept. The consumer clears the elements that it has processed when they hold pointers.
func (b *Buffer[T]) Take(keep int) []T {
	spare := b.taken[:0]
	if cap(spare) > keep {
		spare = nil
	}
	b.taken, b.Waiting = b.Waiting, spare
	return b.taken
}
