package pool

// fifo is a queue on a slice. The zero value is an empty queue. When a queue that was
// large runs empty it releases its memory.
type fifo[T any] struct {
	items []T
	head  int // items[:head] were popped and are zero
}

// keepCap is the largest capacity, in items, that an empty queue keeps.
const keepCap = 1024

func (f *fifo[T]) len() int { return len(f.items) - f.head }

func (f *fifo[T]) push(v T) {
	// Moving the items down takes amortised constant time: at least half of the slice is
	// free.
	if len(f.items) == cap(f.items) && f.head > len(f.items)/2 {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, v)
}

// peek returns the oldest item. The queue must not be empty.
func (f *fifo[T]) peek() T { return f.items[f.head] }

// pop removes and returns the oldest item. The queue must not be empty.
func (f *fifo[T]) pop() T {
	var zero T
	v := f.items[f.head]
	f.items[f.head] = zero // so that the garbage collector can free what it refers to
	f.head++
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
		if cap(f.items) > keepCap {
			f.items = nil
		}
	}
	return v
}
