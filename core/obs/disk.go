package obs

import (
	"github.com/prometheus/client_golang/prometheus"
)

// DiskMetrics returns a collector with teamtalk_disk_free_bytes and teamtalk_disk_size_bytes for
// the disks of folders, which are named by a word. A folder that does not exist, or whose disk
// cannot be asked, has no metrics. Any goroutine.
func DiskMetrics(folders map[string]string) prometheus.Collector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("teamtalk_disk_"+name, help, []string{"folder"}, nil)
	}
	return diskMetrics{folders: folders,
		free: desc("free_bytes", "Bytes that may still be written to the disk of a folder."),
		size: desc("size_bytes", "Size of the disk of a folder.")}
}

type diskMetrics struct {
	folders    map[string]string
	free, size *prometheus.Desc
}

// Describe sends the descriptions of both metrics.
func (m diskMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.free
	to <- m.size
}

// Collect asks the disks.
func (m diskMetrics) Collect(to chan<- prometheus.Metric) {
	for name, dir := range m.folders {
		free, size, err := diskOf(dir)
		if err != nil {
			continue
		}
		to <- prometheus.MustNewConstMetric(m.free, prometheus.GaugeValue, free, name)
		to <- prometheus.MustNewConstMetric(m.size, prometheus.GaugeValue, size, name)
	}
}
