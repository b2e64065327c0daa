package msfs

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	uploads, downloads *prometheus.CounterVec
	scaled             *prometheus.CounterVec
	bytesIn, bytesOut  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, c *scaler) metrics {
	m := metrics{
		uploads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_msfs_uploads_total",
			Help: "Uploads by what became of them: ok, or why not."}, []string{"result"}),
		downloads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_msfs_downloads_total",
			Help: "Downloads by what became of them."}, []string{"result"}),
		scaled: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_msfs_scaled_total",
			Help: "Pictures asked for in a size, by result: made, cached, or why the original was served."},
			[]string{"result"}),
		bytesIn:  prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_msfs_stored_bytes_total", Help: "Bytes of files stored."}),
		bytesOut: prometheus.NewCounter(prometheus.CounterOpts{Name: "teamtalk_msfs_served_bytes_total", Help: "Bytes of files served."}),
	}
	if reg != nil {
		reg.MustRegister(m.uploads, m.downloads, m.scaled, m.bytesIn, m.bytesOut,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_msfs_scaled_bytes",
				Help: "Memory that scaled pictures take."}, c.keptBytes))
	}
	return m
}
