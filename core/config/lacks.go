package config

// warnLacks adds a warning for each server that a process with some roles would use, and that no
// setting names: what clients then cannot do. It is no error, since a deployment may do without.
// With the registry each role finds the others there.
func (c *Config) warnLacks() {
	if c.AllInOne() {
		return
	}
	found := c.Registry.Enabled
	for _, x := range []struct {
		role, with, key string // role in this process, without the role with
		set             bool
		effect          string
	}{
		{"msg", "file", "msg.file", found || len(c.Msg.File) > 0,
			"clients cannot send files to each other"},
		{"file", "route", "file.route",
			found || len(c.File.Route) > 0 || c.File.CheckOnline == "off",
			"a login in the name of a user that is offline is not refused"},
		{"file", "dbproxy", "file.dbproxy",
			found || len(c.File.DBProxy) > 0 || c.File.Compare == 0,
			"a file that is on no list of waiting files is kept until file.keep_waiting"},
		{"login", "msfs", "login.msfs_prior", found || c.Login.MSFSPrior != "",
			"clients are told no address for pictures, and cannot send any"},
		{"dbproxy", "msfs", "dbproxy.msfs", found || c.DBProxy.MSFS != "",
			"sounds are kept in a folder of this process, which other db_proxies do not see"},
	} {
		if c.Runs(x.role) && !c.Runs(x.with) && !x.set {
			c.warnings = append(c.warnings, x.key+": empty, and this process has no role "+x.with+
				": "+x.effect)
		}
	}
	named := c.MSFS.URL != "" || c.Runs("msg") && c.Msg.AdvertiseIP1 != ""
	if c.Runs("msfs") && !named && Addr(c.MSFS.Listen) != "" {
		c.warnings = append(c.warnings, "msfs.url: empty: the addresses of files have the address "+
			"of this machine's network card, and stay so when the server moves")
	}
}
