package system

import (
	"fmt"
	"path/filepath"

	"teamtalk/cmd/teamtalk/internal/open"
	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/config"
	"teamtalk/core/daily"
	"teamtalk/core/im"
	"teamtalk/sql/prune"
)

// startMessageExpiry starts to keep the rule about the age of messages, when the settings have one.
func startMessageExpiry(s *system) error {
	cfg := &s.cfg.DBProxy
	if cfg.MessageExpiry == 0 {
		return nil
	}
	hours, err := daily.Parse(cfg.MessageExpiryHours)
	if err != nil {
		return fmt.Errorf("%w (setting dbproxy.message_expiry_hours)", err)
	}
	store, ok := s.store.(prune.Store)
	if !ok {
		return im.Errorf(im.Internal, "the store deletes no messages")
	}
	turns, ok := s.store.(im.PruneTurns)
	if !ok {
		turns = prune.File(filepath.Join(s.cfg.DataDir, prune.FileName))
	}
	rule := prune.NewRule(prune.RuleOptions{
		Store: store, Turns: turns, Age: cfg.MessageExpiry, Hours: hours, Now: s.store.Now,
		Files: func() (prune.Files, error) { return soundFiles(s) },
		Log:   s.log, Registerer: s.reg,
	})
	s.log.Info("messages are deleted from this age on, once a day (setting dbproxy.message_expiry)",
		"role", config.RoleDBProxy, "age", cfg.MessageExpiry, "hours", cfg.MessageExpiryHours)
	s.stops.Go(stops.EndUpkeep, "message expiry", rule.Run)
	return nil
}

// soundFiles opens the files of sounds for one run. A folder with a small file server in this
// process is its own, so that its quota counts what is deleted.
func soundFiles(s *system) (prune.Files, error) {
	files, err := open.SoundFiles(s.cfg)
	if err != nil {
		return nil, err
	}
	if s.msfs != nil && s.msfs.folder != nil {
		files.Use(s.msfs.folder)
	}
	return files, nil
}
