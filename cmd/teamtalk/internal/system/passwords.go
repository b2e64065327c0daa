package system

import (
	"context"
	"log/slog"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/core/config"
	"teamtalk/core/im"
	"teamtalk/core/kdf"
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

// tellPasswords logs how many rows do not have the form that the settings demand.
func tellPasswords(ctx context.Context, log *slog.Logger, store im.Store,
	policy im.PasswordPolicy) {
	n, err := store.CountPasswords(ctx)
	switch {
	case err != nil:
		log.Warn("passwords not counted", "role", "dbproxy", "err", err)
	case policy.UsesKDF() && n.Weak > 0:
		log.Info("passwords in md5 are moved to argon2id as their users log in", "role",
			"dbproxy", "md5", n.Weak, "argon2id", n.KDF)
	case !policy.UsesKDF() && n.KDF > 0:
		log.Warn("password.kdf is md5, but some passwords were moved to argon2id: they "+
			"remain, and a C++ db_proxy refuses the logins of their users", "role", "dbproxy",
			"md5", n.Weak, "argon2id", n.KDF)
	}
}

// makeDemoUsers adds the users of a demo.
func makeDemoUsers(ctx context.Context, cfg *config.Config, store im.Store) error {
	policy, err := PasswordPolicy(cfg, store)
	if err != nil {
		return err
	}
	return admin.MakeDemoUsers(ctx, store, policy)
}

// findOpenUsers keeps the demo users that everybody can be, and warns of them: those of a demo
// stay in the store when it becomes that of a real server. A demo on this machine alone is what
// was asked for.
func findOpenUsers(ctx context.Context, s *system) {
	if s.store == nil || s.msg != nil && !reachedByOthers(s, true) {
		return
	}
	open, err := admin.OpenDemoUsers(ctx, s.store)
	if err != nil {
		s.log.Warn("passwords of the demo users not checked", "role", "dbproxy", "err", err)
	}
	if s.openUsers = open; len(open) > 0 {
		s.log.Warn("everybody can log in as these users: they have the password of the demo. "+
			"Change it with teamtalk user passwd NAME, or run teamtalk user disable NAME",
			"role", "dbproxy", "users", open)
	}
}
