package pool

import (
	"context"
	"testing"

	"teamtalk/core/im"
)

// BenchmarkDo posts empty tasks over 1,000 keys as fast as the queue takes them: the cost of a task is posting and running it.
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

// BenchmarkDoIdle waits for each task: the way through an idle pool and back.
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

// BenchmarkStrand posts empty tasks that all have one key: the cost of order, where no two may run at once.
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

// BenchmarkBatcher adds items whose batches cost nothing.
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
