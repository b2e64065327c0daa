package msfs

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	uploads, downloads *prometheus.CounterVec
	tickets            *prometheus.CounterVec
	scaled             *prometheus.CounterVec
	bytesIn, bytesOut  prometheus.Counter

	marks, expired               *prometheus.CounterVec
	expiredBytes, expiryFailures prometheus.Counter
	expiryPass                   prometheus.Gauge
}

func newMetrics(opt *Options, c *scaler) metrics {
	m := metrics{
		uploads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_msfs_uploads_total",
			Help: "Uploads by result: ok, or the reason of the refusal."}, []string{"result"}),
		downloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_msfs_downloads_total",
			Help: "Downloads by result: ok, not_found, failed."}, []string{"result"}),
		tickets: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "teamtalk_msfs_tickets_total",
			Help: "Uploads by their ticket (setting msfs.tickets): valid, invalid, none."},
			[]string{"ticket"}),
		scaled: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "teamtalk_msfs_scaled_total",
			Help: "Requests for scaled pictures, by result: made, cached, or the reason why the " +
				"original was served."},
			[]string{"result"}),
		bytesIn: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_msfs_stored_bytes_total", Help: "Bytes of uploaded files stored."}),
		bytesOut: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "teamtalk_msfs_served_bytes_total", Help: "Bytes of files served."}),
	}
	m.ofExpiry()
	if opt.Registerer == nil {
		return m
	}
	opt.Registerer.MustRegister(m.uploads, m.downloads, m.tickets, m.scaled, m.bytesIn, m.bytesOut,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_msfs_scaled_bytes",
			Help: "Memory of the scaled pictures that are cached, in bytes."}, c.keptBytes))
	if opt.Expiry.On() {
		opt.Registerer.MustRegister(m.marks, m.expired, m.expiredBytes, m.expiryFailures,
			m.expiryPass)
	}
	if usage := opt.Usage; usage != nil {
		opt.Registerer.MustRegister(
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_msfs_used_bytes",
				Help: "Bytes of all files, in blocks of 4 KiB. Grows after a start until the " +
					"files are counted."}, func() float64 { return float64(usage().Bytes) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "teamtalk_msfs_quota_bytes",
				Help: "Bytes that all files may have together (setting msfs.quota)."},
				func() float64 { return float64(usage().Quota) }))
	}
	return m
}

// ofExpiry makes the metrics of files that expire.
func (m *metrics) ofExpiry() {
	m.marks = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "teamtalk_msfs_marks_total",
		Help: "Marks of files that were read (settings msfs.expire_after, " +
			"msfs.expire_unused_after): written, failed."}, []string{"result"})
	m.expired = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "teamtalk_msfs_expired_total",
		Help: "Files deleted by reason: unused (never downloaded), old."}, []string{"reason"})
	m.expiredBytes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "teamtalk_msfs_expired_bytes_total", Help: "Bytes of files that were deleted."})
	m.expiryFailures = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "teamtalk_msfs_expiry_failures_total",
		Help: "Expired files that could not be deleted, and walks over all files that ended " +
			"early. They are repeated."})
	m.expiryPass = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "teamtalk_msfs_expiry_pass_end_seconds",
		Help: "Unix time of the end of the last walk over all files. 0: not known yet."})
}
