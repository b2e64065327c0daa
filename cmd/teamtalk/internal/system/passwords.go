package system

import (
	"context"
	"log/slog"

	"teamtalk/cmd/teamtalk/internal/admin"
	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/core/config"
	"teamtalk/core/im"
)

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
	policy, err := open.PasswordPolicy(cfg, store)
	if err != nil {
		return err
	}
	return admin.MakeDemoUsers(ctx, store, policy)
}

// findOpenUsers keeps the demo users that everybody can be, and warns of them: those of a demo
// stay in the store when it becomes that of a real server. A demo on this machine alone is what
// was asked for.
func findOpenUsers(ctx context.Context, s *system) {
	if s.store == nil || s.msg != nil && !s.ports.Beyond(true) {
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
