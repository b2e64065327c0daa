package config

// Mesh reports whether the message server of this process finds the others in Redis, and sends
// straight to them.
func (c *Config) Mesh() bool { return c.Runs("msg") && c.Msg.Whereabouts == "redis" }

// ServerAddr returns the address to listen on for other message servers; "": none.
func (m Msg) ServerAddr() string {
	return internal(m.ServerListen, ":8300", m.Whereabouts != "redis")
}

// Tells returns which PC clients learn that a user's PC went online or offline: "all",
// "contacts" or "none".
func (m Msg) Tells() string {
	switch {
	case m.Presence != auto:
		return m.Presence
	case m.Whereabouts == "redis":
		return "contacts"
	}
	return "all"
}

// checkMesh reports what keeps message servers from finding each other in Redis.
func (c *Config) checkMesh(wrong func(key, format string, args ...any)) {
	if !c.Mesh() {
		return
	}
	if c.Msg.ServerAddr() == "" {
		wrong("msg.server_listen", `needed with msg.whereabouts = "redis": the other message `+
			"servers send to this port")
	}
	if !c.Registry.Enabled {
		wrong("registry.enabled", `needed with msg.whereabouts = "redis": message servers find `+
			"each other in the registry")
	}
	if c.Runs("route") {
		wrong("roles", `a route server is not used with msg.whereabouts = "redis": leave route out`)
	}
	if len(c.Msg.Route) > 0 {
		wrong("msg.route", `not used with msg.whereabouts = "redis": leave it out`)
	}
}
