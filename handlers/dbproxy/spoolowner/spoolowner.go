// Package spoolowner removes files from the list of offline files for the spool of a file server
// that has the right to it.
package spoolowner

import (
	"context"
	"time"

	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// of returns the process of a file server that a request names.
func of(o *pb.FileListOwner) (im.SpoolOwner, error) {
	owner := im.SpoolOwner{Server: o.GetServer(), Epoch: o.GetEpoch(),
		Lease: time.Duration(o.GetLease()) * time.Second}
	if len(o.GetSpool()) != len(owner.Spool) {
		return owner, im.Errorf(im.Invalid, "the id of a spool has %d bytes, not %d",
			len(o.GetSpool()), len(owner.Spool))
	}
	copy(owner.Spool[:], o.GetSpool())
	return owner, im.CheckSpoolOwner(owner)
}

// Keep gives the right to a spool, or keeps it, and returns the epoch. It is 0 when another spool
// has the right, or a later process of this one. Errors are those of im.FileStore.KeepSpool.
func Keep(ctx context.Context, store im.FileStore, o *pb.FileListOwner) (uint64, error) {
	owner, err := of(o)
	if err != nil {
		return 0, err
	}
	return store.KeepSpool(ctx, owner)
}

// Forget removes the files of m from the list, and returns their number. A file server of an older
// version names no spool, and none is removed. Errors are those of im.FileStore.ForgetOfflineFile.
// The files before one that fails stay removed.
func Forget(ctx context.Context, store im.FileStore, m *pb.IMFileListRepairReq) (uint32, error) {
	if len(m.GetForget()) == 0 || !m.HasOwner() {
		return 0, nil
	}
	owner, err := of(m.GetOwner())
	if err != nil {
		return 0, err
	}
	forgotten := uint32(0)
	for _, f := range m.GetForget() {
		gone, err := store.ForgetOfflineFile(ctx, owner, f.GetFromUserId(), f.GetToUserId(),
			f.GetTaskId())
		if err != nil {
			return 0, err
		}
		if gone {
			forgotten++
		}
	}
	return forgotten, nil
}
