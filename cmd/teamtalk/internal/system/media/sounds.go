package media

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"teamtalk/cmd/teamtalk/internal/system/stops"
	"teamtalk/core/blob"
	"teamtalk/core/im"
	"teamtalk/core/sound"
	"teamtalk/core/ticket"
)

// soundRoom is the free space, in bytes, that the folder of sounds leaves on the disk.
// With less space audio messages are refused, while the store still has room for texts.
const soundRoom = 64 << 20

// Sounds opens the place that keeps the sounds of audio messages: the small file
// server of the setting, else the one in this process, else the registered ones, else a
// folder in data_dir. When the folder exists beside a small file server, sounds that an
// earlier run kept in it are found too.
func (f *Files) Sounds() (sound.Store, error) {
	dir := filepath.Join(f.Config.DataDir, "audio")
	keep, err := f.soundServer()
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
	f.Stops.Push(stops.EndUpkeep, "folder of sounds", stops.Closing(folder.Close))
	here := sound.NewBlobs(folder, im.MaxAudio)
	if f.follows() {
		return f.follow(here), nil
	}
	if keep != nil {
		return sound.NewMoved(keep, here), nil
	}
	if !f.Config.AllInOne() {
		f.Log.Warn("sounds of audio messages are kept in a folder of this process; "+
			"other dbproxy servers do not see it (setting dbproxy.msfs)", "role", role,
			"dir", dir)
	}
	return here, nil
}

// soundServer returns the small file server that keeps sounds; nil when there is none.
func (f *Files) soundServer() (sound.Store, error) {
	at := f.Config.DBProxy.MSFS
	if at == "" && f.Here != nil {
		at = f.URL // empty without a port and a URL: clients could not fetch the sounds
	}
	if at == "" {
		return nil, nil
	}
	server, err := f.openServer(at)
	if err != nil {
		return nil, fmt.Errorf("%w (setting dbproxy.msfs)", err)
	}
	f.Stops.Push(stops.EndUpkeep, "server of sounds", stops.Closing(server.Close))
	if f.Config.DBProxy.MSFS != "" {
		return server, nil
	}
	return sound.NewHere(sound.HereOptions{
		Server: f.Here, URL: at, Elsewhere: server, MaxSize: im.MaxAudio,
	}), nil
}

// openServer returns the small file server at a URL.
func (f *Files) openServer(url string) (*sound.HTTP, error) {
	return sound.NewHTTP(sound.HTTPOptions{
		URL: url, MaxSize: im.MaxAudio, Timeout: f.Config.Link.CallTimeout / 4,
		Ticket: signOwn(f.TicketKey), Delivered: true,
	})
}

// signOwn returns a function that signs tickets for the uploads of this server; nil without a
// key.
func signOwn(key []byte) func(size int) string {
	if key == nil {
		return nil
	}
	return func(size int) string {
		return ticket.New(ticket.Server, uint32(size), time.Now()).Sign(key)
	}
}
