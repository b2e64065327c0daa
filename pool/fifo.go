package pool

// fifo is a queue on a slice. The zero value is ready for use. It gives memory back when it runs empty after having been large.
type fifo[T any] struct {
	items []T
	head  int // items[:head] were taken and are zero
}

// keepCap is the largest capacity, in items, that an empty queue keeps.
const keepCap = 1024

func (f *fifo[T]) len() int { return len(f.items) - f.head }

func (f *fifo[T]) push(v T) {
	// Moving down instead of growing: amortised, since at least half of the slice is free then.
	if len(f.items) == cap(f.items) && f.head > len(f.items)/2 {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, v)
}

// peek returns the oldest item; there must be one.
func (f *fifo[T]) peek() T { return f.items[f.head] }

// pop removes and returns the oldest item; there must be one.
func (f *fifo[T]) pop() T {
	var zero T
	v := f.items[f.head]
	f.items[f.head] = zero // whatever it holds on to may go
	f.head++
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
		if cap(f.items) > keepCap {
			f.items = nil
		}
	}
	return v
}
