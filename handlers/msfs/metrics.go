package msfs

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	uploads, downloads *prometheus.CounterVec
	bytesIn, bytesOut  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{
		uploads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_msfs_uploads_total",
			Help: "Uploads by what became of them: ok, or why not."}, []string{"result"}),
		downloads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_msfs_downloads_total",
			Help: "Downloads by what became of them."}, []string{"result"}),
		bytesIn:  prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_msfs_stored_bytes_total", Help: "Bytes of files stored."}),
		bytesOut: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_msfs_served_bytes_total", Help: "Bytes of files served."}),
	}
	if reg != nil {
		reg.MustRegister(m.uploads, m.downloads, m.bytesIn, m.bytesOut)
	}
	return m
}
