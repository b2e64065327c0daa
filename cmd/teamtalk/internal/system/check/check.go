// Package check finds what would keep a process from starting, without a start: wrong settings, and
// files that it could not read or make.
package check

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/cmd/teamtalk/internal/system/encryption"
	"teamtalk/cmd/teamtalk/internal/system/membership"
	"teamtalk/cmd/teamtalk/internal/system/pages"
	"teamtalk/core/access"
	"teamtalk/core/audit"
	"teamtalk/core/cert"
	"teamtalk/core/config"
	"teamtalk/core/config/apps"
	"teamtalk/handlers/adminapi/tokens"
	"teamtalk/handlers/httpapi"
	"teamtalk/sql/mysqlconn"
)

// checker collects what the start of the roles would not be able to read or to make.
type checker struct {
	cfg      *config.Config
	log      *slog.Logger
	problems []config.Problem
}

// Start returns a *config.Error with all that would keep the roles of the settings from
// starting: settings that are wrong or missing, and files and folders that cannot be read or
// made. It changes nothing on the disk, opens no port, and connects to no other machine. The log
// gets the warnings that a start gives about certificates and about a closed HTTP API.
func Start(cfg *config.Config, log *slog.Logger) error {
	c := &checker{cfg: cfg, log: log}
	if err := cfg.CheckServe(); err != nil {
		c.problems = err.(*config.Error).Problems
	}
	c.certificates()
	c.audit()
	c.tokens()
	c.folders()
	c.pushes()
	c.web()
	registers := c.apps()
	c.store(registers || config.Addr(c.cfg.AdminAPI.Listen) != "")
	c.registry()
	if len(c.problems) > 0 {
		return &config.Error{Problems: c.problems}
	}
	return nil
}

// need adds the problem of a setting, unless err is nil or the setting has one. roles are those
// that need the setting; only those that run here are named.
func (c *checker) need(key string, err error, roles ...string) {
	if err == nil || slices.ContainsFunc(c.problems,
		func(p config.Problem) bool { return p.Key == key }) {
		return
	}
	roles = slices.DeleteFunc(roles, func(r string) bool { return !c.cfg.Runs(r) })
	by := strings.Join(roles, ", ")
	if by == "" {
		by = "every start"
	}
	c.problems = append(c.problems, config.Problem{Key: key, Origin: c.cfg.Origin(key),
		Msg: fmt.Sprintf("%v (needed by %s)", err, by)})
}

// certificates checks the files of the sections tls and link_tls. Every start reads them.
func (c *checker) certificates() {
	if t := &c.cfg.TLS; t.Certificate != "" && t.Key != "" {
		_, err := cert.Load(cert.Options{Certificate: t.Certificate, Key: t.Key, Log: c.log})
		c.need("tls.certificate", err, config.RoleLogin, config.RoleMsg, config.RoleMSFS,
			config.RoleFile, config.RoleHTTP, config.RoleWeb)
	}
	if a := &c.cfg.TLS.ACME; len(a.Domains) > 0 {
		_, err := encryption.ACMERoots(a)
		c.need("tls.acme.directory_ca", err)
		key := "tls.acme.folder"
		if a.Folder == "" {
			key = "data_dir"
		}
		c.need(key, access.Folder(open.Folder(c.cfg, a.Folder, "acme")))
	}
	if t := &c.cfg.LinkTLS; t.CA != "" && t.Certificate != "" && t.Key != "" {
		_, err := cert.LoadPeers(t.CA, cert.Options{Certificate: t.Certificate, Key: t.Key,
			Log: c.log})
		c.need("link_tls.certificate", err, c.cfg.Roles...)
	}
}

// audit checks the audit log.
func (c *checker) audit() {
	if a := &c.cfg.Audit; a.File != "" {
		c.need("audit.file", access.File(a.File), config.RoleMsg, config.RoleHTTP)
	}
	if a := &c.cfg.Audit; a.Syslog != "" {
		c.need("audit.syslog", audit.TrySyslog(a.Syslog), config.RoleMsg, config.RoleHTTP)
	}
}

// tokens checks the file of tokens of the admin API.
func (c *checker) tokens() {
	if a := &c.cfg.AdminAPI; config.Addr(a.Listen) != "" && a.Tokens != "" {
		_, err := tokens.Open(a.Tokens)
		c.need("admin_api.tokens", err)
	}
}

// folders checks the folders of files, and the bucket.
func (c *checker) folders() {
	if m := &c.cfg.MSFS; c.cfg.Runs(config.RoleMSFS) && m.S3Endpoint != "" {
		_, err := open.S3(m)
		c.need("msfs.s3_endpoint", err, config.RoleMSFS)
	} else if c.cfg.Runs(config.RoleMSFS) {
		c.folder("msfs.dir", m.Dir, "msfs", config.RoleMSFS)
	}
	if c.cfg.Runs(config.RoleFile) {
		c.folder("file.dir", c.cfg.File.Dir, "files", config.RoleFile)
	}
}

// folder checks the folder of a setting, or the one of that name in data_dir.
func (c *checker) folder(key, dir, name, role string) {
	if dir == "" {
		key = "data_dir"
	}
	c.need(key, access.Folder(open.Folder(c.cfg, dir, name)), role)
}

// pushes checks the credentials for the push services.
func (c *checker) pushes() {
	p := &c.cfg.Push
	if !c.cfg.Runs(config.RolePush) {
		return
	}
	if p.APNsTopic != "" {
		_, err := open.APNs(p)
		key := "push.apns_key_file"
		if p.APNsKeyFile == "" && p.APNsCertFile != "" {
			key = "push.apns_cert_file"
		}
		c.need(key, err, config.RolePush)
	}
	if p.FCMCredentials != "" {
		_, err := open.FCM(p)
		c.need("push.fcm_credentials", err, config.RolePush)
	}
}

// web checks the CA of the message servers to which pages are connected.
func (c *checker) web() {
	if c.cfg.ServesWeb() {
		_, err := pages.Roots(c.cfg.Web.MsgCA, false)
		c.need("web.msg_ca", err, config.RoleWeb)
	}
}

// apps checks the file of systems, and reports whether users can register through it.
func (c *checker) apps() (registers bool) {
	file := c.cfg.HTTP.AppsFile
	if !c.cfg.Runs(config.RoleHTTP) {
		return false
	}
	if file == "" {
		WarnClosedAPI(c.cfg, c.log)
		return false
	}
	read, err := apps.Load(file)
	if err != nil {
		c.need("http.apps_file", err, config.RoleHTTP)
		return false
	}
	list, register := open.Apps(read)
	if err := httpapi.Check(list, register); err != nil {
		c.need("http.apps_file", fmt.Errorf("%s: %w", file, err), config.RoleHTTP)
	}
	return register != nil
}

// WarnClosedAPI logs a warning when a setting asks for the port of the HTTP API, which stays closed
// because nobody may call it.
func WarnClosedAPI(cfg *config.Config, log *slog.Logger) {
	if cfg.AllInOne() && cfg.Origin("http.listen") != "default" &&
		config.Addr(cfg.HTTP.Listen) != "" {
		log.Warn("the port of the HTTP API stays closed, because no system may call it: set "+
			"http.apps_file", "role", config.RoleHTTP, "http.listen", cfg.HTTP.Listen)
	}
}

// store checks what the store needs. administered says that an HTTP API adds users to it.
func (c *checker) store(administered bool) {
	var roles []string
	if c.cfg.Runs(config.RoleDBProxy) {
		roles = append(roles, config.RoleDBProxy)
	}
	if administered {
		roles = append(roles, config.RoleHTTP)
	}
	if len(roles) == 0 {
		return
	}
	if err := c.cfg.CheckStore(); err != nil {
		for _, p := range err.(*config.Error).Problems {
			c.need(p.Key, fmt.Errorf("%s", p.Msg), roles...)
		}
		return
	}
	if c.cfg.Store != "mysql" {
		can := access.NewFolder
		if m := c.cfg.MSFS; c.cfg.Runs(config.RoleMSFS) && m.S3Endpoint == "" && m.Dir == "" {
			can = access.Folder // msfs starts first, and makes data_dir
		}
		c.need("data_dir", can(c.cfg.DataDir), roles...)
		return
	}
	encrypted, err := open.MySQLTLS(c.cfg.MySQL)
	c.needNamed("mysql.master", err, roles)
	if err == nil {
		_, err = mysqlconn.Parse(c.cfg.MySQL.Master.Reveal(), encrypted)
		c.need("mysql.master", err, roles...)
		if slave := c.cfg.MySQL.Slave.Reveal(); slave != "" {
			_, err = mysqlconn.Parse(slave, encrypted)
			c.need("mysql.slave", err, roles...)
		}
	}
	_, err = open.Redis(c.cfg.Redis)
	c.needNamed("redis.addrs", err, roles)
}

// registry checks the name of this process, and the files of the registry's Redis.
func (c *checker) registry() {
	if !c.cfg.Registry.Enabled {
		return
	}
	if _, err := membership.Name(c.cfg); err != nil {
		c.problems = append(c.problems, err.(*config.Error).Problems...)
	}
	_, err := open.RegistryRedis(c.cfg)
	c.needNamed("registry.redis", err, c.cfg.Roles)
	if c.cfg.Mesh() {
		_, err = open.WhereaboutsRedis(c.cfg)
		c.needNamed("redis.unread", err, []string{config.RoleMsg})
	}
}

// needNamed is need for an error that begins with its setting, if it is about a file. key is the
// setting of other errors.
func (c *checker) needNamed(key string, err error, roles []string) {
	if err == nil {
		return
	}
	setting, text, _ := strings.Cut(err.Error(), ": ")
	if c.cfg.Origin(setting) != "" {
		c.need(setting, fmt.Errorf("%s", text), roles...)
		return
	}
	c.need(key, err, roles...)
}
