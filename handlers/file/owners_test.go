package file_test

import (
	"sync"
	"testing"

	"teamtalk/core/im"
	"teamtalk/handlers/file"
	"teamtalk/proto/pb"
)

// lost makes a transfer of h whose file is lost, and lists it.
func (l *listStand) lost(h *house) string {
	h.t.Helper()
	task := h.task(1, 2, 1, offline)
	if err := h.spool.Delete(task); err != nil {
		h.t.Fatal(err)
	}
	l.set(func() { l.rows = append(l.rows, row(1, 2, task)) })
	return task
}

// TestCompareTwoOwners: of two servers with one address, each with files of its own, only the one
// that has the lease forgets rows. The other one would forget those of the first. Both list their
// own files. When the first one has not compared for long, the other one gets the lease.
func TestCompareTwoOwners(t *testing.T) {
	list := &listStand{taken: map[string]bool{}}
	first := open(t, file.Options{List: list, Grace: -1})
	second := open(t, file.Options{List: list, Grace: -1})
	first.compare()
	tasks := map[string]string{"first": first.upload(1, 2), "second": second.upload(1, 2)}
	tasks["lost"] = list.lost(first)
	second.compare()
	list.want(t, "the second compared", tasks, "second 1>2", "lost 1>2")
	if n := second.metric("teamtalk_file_list_repairs_total"); n < 2 { // one is listed
		t.Error("the row that was kept is not counted")
	}
	first.compare()
	list.want(t, "the first compared", tasks, "first 1>2")
	second.compare()
	list.want(t, "both compared", tasks, "first 1>2", "second 1>2")

	list.set(func() { list.ended = true })
	second.compare()
	list.want(t, "the lease has ended", tasks, "second 1>2")
}

// TestComparePausedOwner: a process that was paused after it has read the list, while a later
// process of its spool, or another server with its address, has got the lease, forgets nothing.
func TestComparePausedOwner(t *testing.T) {
	for name, later := range map[string]func(t *testing.T, list *listStand){
		"its spool": func(_ *testing.T, list *listStand) {
			o := list.lease
			o.SetEpoch(0)
			list.keep(o)
		},
		"another spool": func(t *testing.T, list *listStand) {
			list.ended = true
			o := list.lease
			o.SetSpool(make([]byte, 16))
			if list.keep(o) == 0 {
				t.Error("the lease was not given")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			list := &listStand{taken: map[string]bool{}}
			h := open(t, file.Options{List: list, Grace: -1})
			tasks := map[string]string{"row": list.lost(h)}
			var once sync.Once
			denied := 0
			list.set(func() {
				list.spoil = func(m pb.Message) (pb.Message, error) {
					if m == nil {
						denied++
						return nil, im.Errorf(im.Denied, "the lease has a later holder")
					}
					once.Do(func() { later(t, list) }) // while this answer is on its way
					return m, nil
				}
			})
			h.compare()
			list.want(t, "after the pause", tasks, "row 1>2")
			list.set(func() {
				if denied != 1 {
					t.Errorf("%d repairs denied, want 1: then it knows that it is not the holder",
						denied)
				}
			})
		})
	}
}

// TestCompareOlderDBProxy: a db_proxy that knows no leases is asked to forget nothing.
func TestCompareOlderDBProxy(t *testing.T) {
	list := &listStand{taken: map[string]bool{}, old: true}
	h := open(t, file.Options{List: list, Grace: -1})
	tasks := map[string]string{"file": h.upload(1, 2), "row": list.lost(h)}
	h.compare()
	list.want(t, "compared", tasks, "file 1>2", "row 1>2")
}
