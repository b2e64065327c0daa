package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/blob"
	"teamtalk/core/im"
	"teamtalk/core/sound"
)

// soundRoom is the free space, in bytes, that the folder of sounds leaves on the disk.
// With less space audio messages are refused, while the store still has room for texts.
const soundRoom = 64 << 20

// openSounds opens the place that keeps the sounds of audio messages: the small file
// server of the setting, else the one in this process, else a folder in data_dir. When
// the folder exists beside a small file server, sounds that an earlier run kept in it are
// found too.
func (s *system) openSounds() (sound.Store, error) {
	dir := filepath.Join(s.cfg.DataDir, "audio")
	keep, err := s.soundServer()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(dir); keep != nil && errors.Is(err, fs.ErrNotExist) {
		return keep, nil
	}
	folder, err := blob.OpenFolder(dir, soundRoom)
	if err != nil {
		return nil, fmt.Errorf("folder for audio messages: %w (setting data_dir)", err)
	}
	s.stops.Push(stops.EndUpkeep, "folder of sounds", stops.Closing(folder.Close))
	here := sound.NewBlobs(folder, im.MaxAudio)
	if keep != nil {
		return sound.NewMoved(keep, here), nil
	}
	if !s.cfg.AllInOne() {
		s.log.Warn("sounds of audio messages are kept in a folder of this process; "+
			"other dbproxy servers do not see it (setting dbproxy.msfs)", "role", RoleDBProxy,
			"dir", dir)
	}
	return here, nil
}

// soundServer returns the small file server that keeps sounds; nil when there is none.
func (s *system) soundServer() (sound.Store, error) {
	at := s.cfg.DBProxy.MSFS
	if at == "" && s.msfs != nil {
		at = s.msfs.url // empty without a port and a URL: clients could not fetch the sounds
	}
	if at == "" {
		return nil, nil
	}
	server, err := sound.NewHTTP(sound.HTTPOptions{
		URL: at, MaxSize: im.MaxAudio, Timeout: s.cfg.Link.CallTimeout / 4,
		Ticket: signOwn(s.ticketKey), Delivered: true,
	})
	if err != nil {
		return nil, fmt.Errorf("%w (setting dbproxy.msfs)", err)
	}
	s.stops.Push(stops.EndUpkeep, "server of sounds", stops.Closing(server.Close))
	if s.cfg.DBProxy.MSFS != "" {
		return server, nil
	}
	return sound.NewHere(sound.HereOptions{
		Server: s.msfs.server, URL: at, Elsewhere: server, MaxSize: im.MaxAudio,
	}), nil
}
