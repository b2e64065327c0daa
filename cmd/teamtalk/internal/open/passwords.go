package open

import (
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/core/kdf"
	"teamtalk/handlers/dbproxy/lockout"
)

// finalized is a store on tables that C++ servers may share until they are finalized.
type finalized interface{ Finalized() bool }

// PasswordPolicy returns the form in which the settings demand that passwords are stored. It
// returns an error when other programs that use the store could not check that form.
func PasswordPolicy(cfg *config.Config, store im.Store) (im.PasswordPolicy, error) {
	p := &cfg.Password
	if p.KDF == "md5" {
		return im.PasswordPolicy{}, nil
	}
	if s, ok := store.(finalized); ok && !s.Finalized() {
		return im.PasswordPolicy{}, im.Errorf(im.Invalid, "password.kdf is argon2id, and C++ "+
			"db_proxies may share the tables: they would refuse the logins of all users that "+
			"logged in here. When none is left run teamtalk migrate finalize, else set "+
			"password.kdf = \"md5\"")
	}
	return im.PasswordPolicy{KDF: kdf.Params{Memory: uint32(p.Memory >> 10),
		Passes: uint32(p.Passes), Lanes: 1}}, nil
}

// LoginLimits returns the limits of wrong passwords that the settings hold.
func LoginLimits(cfg *config.DBProxy) lockout.Limits {
	return lockout.Limits{Attempts: cfg.LoginLockAttempts, Window: cfg.LoginLockWindow,
		NetworkAttempts: cfg.LoginLockNetwork, NameAttempts: cfg.LoginLockName,
		NameWindow: cfg.LoginNameWindow, Known: cfg.LoginKnown}
}
