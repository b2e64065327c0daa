package marks

import "github.com/prometheus/client_golang/prometheus"

// metrics counts marks and requests.
type metrics struct {
	marks, lists, mends *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, i *Index) *metrics {
	name := func(n string) string { return "teamtalk_mesh_" + n }
	vec := func(n, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name(n), Help: help},
			[]string{"result"})
	}
	m := &metrics{
		marks: vec("marks_total", "Marks of this message server for groups with a member here, by "+
			"result: written, removed, failed (they are written again)."),
		lists: vec("group_lists_total", "Questions to db_proxy for the groups of a user that has "+
			"come, by result: ok, failed, late (the login did not wait for the answer), not_kept "+
			"(too many groups, or a db_proxy that answers only with some of them). Except with ok "+
			"this message server gets the messages of all groups."),
		mends: vec("mends_total", "Groups whose members were all looked up, because a message had "+
			"a later version of the group than the marks, by result: ok, failed, full (too many "+
			"at a time). Messages go to all message servers until it is ok."),
	}
	if reg == nil {
		return m
	}
	size := func(n, help string, f func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name(n), Help: help},
			func() float64 {
				i.mu.Lock()
				defer i.mu.Unlock()
				return float64(f())
			})
	}
	reg.MustRegister(m.marks, m.lists, m.mends,
		size("groups", "Groups with a member here, or with one some minutes ago.",
			func() int { return len(i.marks) - 1 }),
		size("memberships", "Groups of all users here.", func() int { return i.memberships }),
		size("users_without_groups", "Users here whose groups are not known, so that this "+
			"message server gets the messages of all groups.",
			func() int { return int(i.all.users) }),
		size("marks_waiting", "Marks that wait to be written or removed.",
			func() int { return len(i.dirty) + i.busy }))
	return m
}
