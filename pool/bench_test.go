package pool

import (
	"context"
	"testing"

	"teamtalk/core/im"
)

// BenchmarkDo posts empty tasks over 1,000 keys as fast as the queue accepts them. It
// measures posting and running a task.
func BenchmarkDo(b *testing.B) {
	p := newPool(b, Options{})
	nop := func(context.Context) {}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for n := uint64(0); pb.Next(); n++ {
			for im.KindOf(p.Do(n%1000, nop)) == im.Busy {
			}
		}
	})
	drain(b, p)
}

// BenchmarkDoIdle waits for each task. It measures the way of a task through an idle
// pool.
func BenchmarkDoIdle(b *testing.B) {
	p := newPool(b, Options{})
	done := make(chan struct{})
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Do(1, func(context.Context) { done <- struct{}{} }); err != nil {
			b.Fatal(err)
		}
		<-done
	}
}

// BenchmarkStrand posts empty tasks of one key, which may never run at the same time. It
// measures the cost of order.
func BenchmarkStrand(b *testing.B) {
	p := newPool(b, Options{})
	nop := func(context.Context) {}
	b.ReportAllocs()
	for b.Loop() {
		for im.KindOf(p.Do(7, nop)) == im.Busy {
		}
	}
	drain(b, p)
}

// BenchmarkBatcher adds items to batches that do nothing.
func BenchmarkBatcher(b *testing.B) {
	p := newPool(b, Options{})
	type item struct{ text []byte }
	batcher := NewBatcher(p, BatchOptions[item]{}, func(i item) int { return len(i.text) },
		func(context.Context, []item) {})
	text := make([]byte, 88)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for n := uint64(0); pb.Next(); n++ {
			for im.KindOf(batcher.Add(n%200, item{text})) == im.Busy {
			}
		}
	})
	drain(b, p)
}

// BenchmarkCarrier compares the two carriers of a worker: a goroutine of ants, which is
// kept, and a new goroutine, on which the pool starts a worker when ants refuses. Each
// task finds the pool idle, so that a worker starts for it. "deep" tasks use 16 KiB of
// stack, about as much as a query.
func BenchmarkCarrier(b *testing.B) {
	for _, depth := range []struct {
		name string
		task func()
	}{{"flat", func() {}}, {"deep", func() { useStack() }}} {
		for _, carrier := range []string{"ants", "goroutine"} {
			b.Run(depth.name+"/"+carrier, func(b *testing.B) {
				p := newPool(b, Options{})
				if carrier == "goroutine" {
					p.carrier.Close()
				}
				done := make(chan struct{})
				task := func(context.Context) { depth.task(); done <- struct{}{} }
				b.ReportAllocs()
				for b.Loop() {
					if err := p.Do(1, task); err != nil {
						b.Fatal(err)
					}
					<-done
				}
			})
		}
	}
}

// useStack uses 16 KiB of the caller's stack.
//
//go:noinline
func useStack() byte {
	var room [16 << 10]byte
	for i := range room {
		room[i] = byte(i)
	}
	return room[len(room)/3]
}
