package system

import (
	"crypto/rand"

	"teamtalk/core/config"
	"teamtalk/core/ticket"
)

// newTicketKey returns the key of tickets for uploads: the setting's, or a new one, which
// CheckServe allows when no other process needs it. nil: there are no tickets.
func newTicketKey(cfg *config.Config) []byte {
	if !cfg.NeedsTicketKey() {
		return nil
	}
	if key := cfg.MSFS.TicketKey.Reveal(); key != "" {
		return []byte(key)
	}
	key := make([]byte, ticket.MinKey)
	_, _ = rand.Read(key) // does not fail
	return key
}
