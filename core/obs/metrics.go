package obs

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// NewRegistry makes a registry with the metrics of the Go runtime and of the process, and
// with teamtalk_build_info, whose labels identify the build.
func NewRegistry(v Version) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "teamtalk_build_info", Help: "Always 1; the labels identify the build.",
		ConstLabels: prometheus.Labels{"version": v.Version, "revision": v.Revision,
			"modified": strconv.FormatBool(v.Modified), "goversion": v.Go},
	})
	build.Set(1)
	reg.MustRegister(build, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}
