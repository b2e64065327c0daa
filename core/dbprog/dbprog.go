// Package dbprog finds the programs of databases that are installed on this machine, and
// prepares the folders of Galera nodes that run on it. Tests and measurements start their
// own databases with it.
package dbprog

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// Find returns the path of the first program that is installed, "" when none is. Debian
// keeps servers in sbin, which PATH may lack.
func Find(programs ...string) string {
	for _, name := range programs {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
		for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/usr/local/bin",
			"/usr/libexec", "/opt/homebrew/bin"} {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
				return path
			}
		}
	}
	return ""
}

// GaleraLibrary returns the path of the wsrep provider, "" when it is not installed.
func GaleraLibrary() string {
	for _, pattern := range []string{"/usr/lib/galera/libgalera_smm.so",
		"/usr/lib/*/galera/libgalera_smm.so", "/usr/lib*/galera-4/libgalera_smm.so",
		"/opt/homebrew/lib/galera/libgalera_smm.*", "/usr/local/lib/galera/libgalera_smm.so"} {
		if paths, _ := filepath.Glob(pattern); len(paths) > 0 {
			return paths[0]
		}
	}
	return ""
}

// SnapshotMethod is the value of wsrep_sst_method that runs the script of
// WriteSnapshotScript.
const SnapshotMethod = "empty"

// snapshotScript transfers nothing: the server runs it on both sides when a node joins.
// The script for rsync fails for a server that runs as root, and needs a fixed port. With
// the method "skip" a joiner waits for ever for the later changes.
const snapshotScript = `#!/bin/sh
while [ $# -gt 0 ]; do
	case $1 in
	--role) role=$2; shift;;
	--gtid) gtid=$2; shift;;
	--datadir) datadir=$2; shift;;
	esac
	shift
done
if [ "$role" = joiner ]; then
	echo "ready 127.0.0.1/none"
	cat "$datadir/../position"
else
	echo "done $gtid"
fi
`

// WriteSnapshotScript writes the script of SnapshotMethod into the folder of a node. PATH
// of the node must lead there. The data are in the folder "data" of the node's folder. A
// node that joins begins with the state of Position.Save.
func WriteSnapshotScript(home string) error {
	return os.WriteFile(filepath.Join(home, "wsrep_sst_"+SnapshotMethod), []byte(snapshotScript),
		0o700)
}

// Position is the state of the data of a Galera node.
type Position struct {
	Cluster string // the id of the cluster
	Seqno   string // the number of the last transaction
}

// String returns the position as wsrep_start_position has it.
func (p Position) String() string { return p.Cluster + ":" + p.Seqno }

var ended = regexp.MustCompile(`(?m)^uuid:\s+(\S+)\nseqno:\s+(\d+)$`)

// EndPosition returns the position of a node that was shut down. It returns an error for
// one that was killed.
func EndPosition(home string) (Position, error) {
	state, err := os.ReadFile(filepath.Join(home, "data", "grastate.dat"))
	if err != nil {
		return Position{}, err
	}
	m := ended.FindSubmatch(state)
	if m == nil {
		return Position{}, fmt.Errorf("the node was not shut down: %s", state)
	}
	return Position{string(m[1]), string(m[2])}, nil
}

// Save writes the position into the folder of a node, for the script.
func (p Position) Save(home string) error {
	return os.WriteFile(filepath.Join(home, "position"), []byte(p.String()+"\n"), 0o600)
}
