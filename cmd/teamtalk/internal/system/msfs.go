package system

import (
	"context"
	"errors"
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
	store  blob.Store
	server *msfs.Server
	url    string      // how clients reach it
	http   *web.Server // nil: off
}

// startMSFS opens the store of small files and the port for them.
func (s *system) startMSFS(context.Context) error {
	cfg := &s.cfg.MSFS
	store, err := openBlobs(s.cfg)
	if err != nil {
		return fmt.Errorf("msfs: %w", err)
	}
	m := &smallFiles{store: store}
	s.msfs = m
	s.ready.Add("msfs", store.Ping)
	var l *net.TCPListener
	if addr := config.Addr(cfg.Listen); addr != "" {
		if l, err = web.Listen(addr); err != nil {
			return fmt.Errorf("%w (setting msfs.listen)", err)
		}
	}
	m.url = webAddress(cfg.URL, l)
	m.server = msfs.New(msfs.Options{Store: store, URL: m.url, MaxSize: int64(cfg.MaxSize), MaxUploads: cfg.MaxUploads,
		ScaledCache: int64(cfg.ScaledCache), ScalePixels: cfg.ScalePixels, Log: s.log, Registerer: s.reg})
	if l != nil {
		m.http = s.serveWeb(l, web.Options{Name: "msfs", Handler: m.server, MaxConns: cfg.MaxConnections})
	}
	return nil
}

// openBlobs opens the bucket or the folder.
func openBlobs(cfg *config.Config) (blob.Store, error) {
	c := &cfg.MSFS
	if c.S3Endpoint != "" {
		return blob.OpenS3(blob.S3Options{Endpoint: c.S3Endpoint, Secure: !c.S3Plain, Region: c.S3Region, Bucket: c.S3Bucket, Prefix: c.S3Prefix,
			AccessKey: c.S3AccessKey, SecretKey: string(c.S3SecretKey)})
	}
	dir := c.Dir
	if dir == "" {
		dir = filepath.Join(cfg.DataDir, "msfs")
	}
	return blob.OpenFolder(dir, int64(c.MinFree))
}

// webAddress is the URL told to clients: as set, else this machine's address and the port listened on.
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

// filesURL is what login servers tell clients: as set, else the small file server of this process.
func (s *system) filesURL() string {
	if s.cfg.Login.MSFSPrior != "" || s.msfs == nil {
		return s.cfg.Login.MSFSPrior
	}
	return s.msfs.url
}

// stop ends the port once its requests are answered, and closes the store.
func (m *smallFiles) stop(ctx context.Context) error {
	var errs []error
	if m.http != nil {
		errs = append(errs, m.http.Close(ctx))
	}
	if c, ok := m.store.(io.Closer); ok {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
