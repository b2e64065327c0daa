package registry

import "net/url"

// FileURLs returns the URLs of small file servers, the preferred one first: those that do not drain
// before those that do, and then by name. So all processes prefer the same one. Addresses that are
// no http or https URLs are left out.
func FileURLs(nodes []Node) []string {
	var serve, drain []string
	for _, n := range nodes {
		if len(n.Clients) == 0 || !isWeb(n.Clients[0]) {
			continue
		}
		if n.Draining {
			drain = append(drain, n.Clients[0])
		} else {
			serve = append(serve, n.Clients[0])
		}
	}
	return append(serve, drain...)
}

// isWeb reports whether s is an http or https URL with a host.
func isWeb(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != ""
}
