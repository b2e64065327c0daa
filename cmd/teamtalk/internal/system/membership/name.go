package membership

import (
	"fmt"
	"os"
	"strings"

	"teamtalk/core/config"
	"teamtalk/core/registry"
)

// Name returns the name of this process: the setting's, else that of the machine. A name that
// several machines have is refused with a *config.Error.
func Name(cfg *config.Config) (string, error) {
	if cfg.Node.Name != "" {
		return cfg.Node.Name, nil
	}
	host, err := os.Hostname()
	host = strings.ToLower(host)
	if err == nil {
		err = registry.CheckName(host)
	}
	if err == nil && (host == "localhost" || strings.HasPrefix(host, "localhost.")) {
		err = fmt.Errorf("other machines have the name %s as well", host)
	}
	if err != nil {
		return "", nameError(cfg, fmt.Sprintf("needed with registry.enabled, because the name of "+
			"this machine does not serve: %v", err))
	}
	return host, nil
}

// nameError returns the error of the name.
func nameError(cfg *config.Config, text string) *config.Error {
	return &config.Error{Problems: []config.Problem{{Key: "node.name",
		Origin: cfg.Origin("node.name"), Msg: text}}}
}

// ReplacedError is the error of a process whose name another process has taken.
type ReplacedError struct{ cause *config.Error }

// Error names the setting and the other process.
func (e *ReplacedError) Error() string { return e.cause.Error() }

// ExitCode returns 3. A service manager must not restart the process: it would take the name
// back, and the two would end each other again and again.
func (*ReplacedError) ExitCode() int { return 3 }
