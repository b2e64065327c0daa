package system

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"

	"teamtalk/core/blob"
	"teamtalk/core/config"
	"teamtalk/core/web"
	"teamtalk/handlers/msfs"
)

// smallFiles is the role msfs while it runs.
type smallFiles struct {
	server *msfs.Server
	url    string // at which clients reach it
}

// startMSFS opens the store of small files and the port for them.
func (s *system) startMSFS(context.Context) error {
	cfg := &s.cfg.MSFS
	store, err := openBlobs(s.cfg)
	if err != nil {
		return fmt.Errorf("msfs: %w", err)
	}
	if c, ok := store.(io.Closer); ok {
		s.stops.push(closeWeb, "msfs store", closing(c.Close))
	}
	needsDisk(s, roleMSFS, "msfs.min_free", store.Ping)
	var l *net.TCPListener
	if addr := config.Addr(cfg.Listen); addr != "" {
		if l, err = web.Listen(addr); err != nil {
			return fmt.Errorf("%w (setting msfs.listen)", err)
		}
	}
	m := &smallFiles{url: webAddress(cfg.URL, l)}
	m.server = msfs.New(msfs.Options{
		Store: store, URL: m.url, MaxSize: int64(cfg.MaxSize), MaxUploads: cfg.MaxUploads,
		ScaledCache: int64(cfg.ScaledCache), ScalePixels: cfg.ScalePixels, Log: s.log,
		Registerer: s.reg,
	})
	s.msfs = m
	if l != nil {
		srv := s.serveWeb(l, web.Options{Name: "msfs", Handler: m.server,
			MaxConns: cfg.MaxConnections})
		s.stops.push(closeWeb, "msfs", srv.Close)
	}
	return nil
}

// openBlobs opens the bucket or the folder that the settings name.
func openBlobs(cfg *config.Config) (blob.Store, error) {
	c := &cfg.MSFS
	if c.S3Endpoint != "" {
		return blob.OpenS3(blob.S3Options{
			Endpoint: c.S3Endpoint, Secure: !c.S3Plain, Region: c.S3Region, Bucket: c.S3Bucket,
			Prefix: c.S3Prefix, AccessKey: c.S3AccessKey, SecretKey: string(c.S3SecretKey),
		})
	}
	dir := c.Dir
	if dir == "" {
		dir = filepath.Join(cfg.DataDir, "msfs")
	}
	return blob.OpenFolder(dir, int64(c.MinFree))
}

// webAddress returns the URL that clients are told: the setting's, else this machine's
// address and the port of l. l is nil when no port is open; the URL is empty then, unless
// it is set.
func webAddress(set string, l *net.TCPListener) string {
	if set != "" || l == nil {
		return set
	}
	at := l.Addr().(*net.TCPAddr)
	host := at.IP.String()
	if ip, ok := netip.AddrFromSlice(at.IP); ok && ip.IsUnspecified() {
		host = ownAddress()
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(at.Port))
}

// filesURL returns the URL of small files that login servers tell clients: the setting's,
// else that of the small file server in this process.
func (s *system) filesURL() string {
	if s.cfg.Login.MSFSPrior != "" || s.msfs == nil {
		return s.cfg.Login.MSFSPrior
	}
	return s.msfs.url
}
