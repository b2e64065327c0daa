package open

import (
	"fmt"
	"path/filepath"

	"teamtalk/core/blob"
	"teamtalk/core/config"
)

// Blobs opens the bucket or the folder that the settings name.
func Blobs(cfg *config.Config) (blob.Store, error) {
	c := &cfg.MSFS
	if c.S3Endpoint != "" {
		return S3(c)
	}
	folder, err := blob.OpenFolder(Folder(cfg, c.Dir, "msfs"), int64(c.MinFree))
	if err != nil {
		return nil, err
	}
	folder.SetQuota(int64(c.Quota))
	return folder, nil
}

// S3 returns the store in the bucket that the settings name. It does not connect.
func S3(c *config.MSFS) (*blob.S3, error) {
	return blob.OpenS3(blob.S3Options{
		Endpoint: c.S3Endpoint, Secure: !c.S3Plain, Region: c.S3Region, Bucket: c.S3Bucket,
		Prefix: c.S3Prefix, AccessKey: c.S3AccessKey, SecretKey: string(c.S3SecretKey),
	})
}

// ViewBlobs opens the bucket or the folder for a command beside the server, which changes
// nothing. The caller must close an io.Closer.
func ViewBlobs(cfg *config.Config) (blob.Ager, error) {
	c := &cfg.MSFS
	if c.S3Endpoint != "" {
		return S3(c)
	}
	folder, err := blob.ViewFolder(Folder(cfg, c.Dir, "msfs"))
	if err != nil {
		return nil, fmt.Errorf("%w: name the folder of the server with --config, --data-dir or "+
			"--msfs.dir", err)
	}
	return folder, nil
}

// Folder returns the folder dir of a setting; if it is empty, the folder name in data_dir.
func Folder(cfg *config.Config, dir, name string) string {
	if dir != "" {
		return dir
	}
	return filepath.Join(cfg.DataDir, name)
}

// Folders returns the folders into which the roles of this process write, by the setting that names
// them.
func Folders(cfg *config.Config) map[string]string {
	folders := map[string]string{}
	if cfg.Runs("dbproxy") { // also its sounds, with MySQL
		folders["data_dir"] = cfg.DataDir
	}
	if cfg.Runs("msfs") && cfg.MSFS.S3Endpoint == "" {
		folders["msfs.dir"] = Folder(cfg, cfg.MSFS.Dir, "msfs")
	}
	if cfg.Runs("file") {
		folders["file.dir"] = Folder(cfg, cfg.File.Dir, "files")
	}
	return folders
}
