// Package media keeps what messages and users refer to on the small file server, for a dbproxy
// server: the sounds of audio messages, which it stores there, and the avatars, which must not
// expire there.
package media

import (
	"log/slog"

	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/config"
	"teamtalk/core/registry"
	"teamtalk/handlers/msfs"
)

// role is the role that the log lines name.
const role = "dbproxy"

// Files are the small files of a dbproxy server. All fields but Here, URL, View and TicketKey are
// required.
type Files struct {
	Config *config.Config
	// Here is the small file server of this process; nil: it has none. URL is its address for
	// clients; empty: they do not reach it.
	Here *msfs.Server
	URL  string
	// View has the small file servers of the deployment, which are used when the setting names
	// none and this process has none; nil: there is no registry.
	View *registry.View
	// TicketKey signs the tickets for uploads; nil: there are no tickets.
	TicketKey []byte
	// Stops gets the stops of what is opened, in the phase EndUpkeep.
	Stops *stops.Stack
	Log   *slog.Logger
}

// follows reports whether the registered small file servers are used.
func (f *Files) follows() bool {
	return f.View != nil && f.Here == nil && f.Config.DBProxy.MSFS == ""
}
