package file

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/backoff"
	"teamtalk/core/im"
	"teamtalk/core/spool"
	"teamtalk/proto/pb"
)

// The files are in this server's spool, the list by which receivers find them is
// db_proxy's, and clients carry the changes from one to the other. The sender of a file
// reports its upload through a message server, after this server told it that the file is
// complete. The receiver reports a download. When such a report is lost, spool and list
// differ. So this server reads the whole list at intervals, page by page, and repairs it:
//
//   - A file that was never listed is listed.
//   - A file that its receiver has removed from the list is deleted.
//   - A row without a file is forgotten, if the file was this server's: its id is sealed
//     with this server's address, or the spool contains the id for other users than the
//     row. A forgotten row is not marked as removed by the receiver. If the file
//     reappears, because the folder's disk was not mounted, it is listed again.
//
// Two servers may have one address: by mistake, or because a machine was replaced while the old one
// was paused or cut off. Each has a spool without the files of the other, and would forget their
// rows. So the right to forget rows of an address is a lease in the database, which a spool gets
// from db_proxy with an epoch and renews with each comparison. db_proxy refuses to forget rows for
// any but the last epoch, in the transaction that forgets them. A second spool gets the lease when
// the first one has not compared for three intervals. A process that opens the spool again gets a
// new epoch at once, so the one before it, which may have been paused, forgets nothing any more.
// Listing and deleting files needs no lease: a server lists and deletes what is in its own spool.
//
// A fetched file stays listed until it expires. This server knows that the last bytes
// were sent, not that they arrived, and a receiver that asks again must find the file.
//
// Nothing is changed before the whole list was read without a failure, and files and rows
// younger than Options.Grace are ignored. An answer that is outdated when it is used does
// no harm: db_proxy checks again before it lists a file, and forgets a row only while it
// is listed.

const (
	// listPause is the pause before each request, so that this server sends at most 50 a
	// second.
	listPause = 20 * time.Millisecond
	// repairBatch is the number of files in one request. maxRepairs bounds the files that
	// one comparison lists, and the rows that it forgets. The next comparison handles the
	// rest.
	repairBatch = 100
	maxRepairs  = 10_000
)

// comparison is one comparison of the spool with the list.
type comparison struct {
	s      *Server
	key    uint64                // of its requests, so that one db_proxy answers all of them
	due    map[string]spool.Info // files older than Grace that are not seen in the list yet
	forget []*pb.ListedFile
	owner  *pb.FileListOwner // nil: this server has no address, and forgets nothing
	// owns says that db_proxy has answered with an epoch.
	owns bool

	// The numbers in the log: rows read, those of other servers, and the repairs. left
	// counts files and rows beyond maxRepairs, kept rows that another server's lease keeps.
	rows, others, listed, refused, removed, forgotten, left, kept int
}

// RunCompare compares the spool with db_proxy's list at the given interval, first after
// one interval. It returns when ctx ends, and at once without Options.List.
func (s *Server) RunCompare(ctx context.Context, interval time.Duration) {
	if s.opt.List == nil {
		return
	}
	t := time.NewTicker(interval)
	defer t.Stop()
	s.compared = comparing{lease: max(3*interval, time.Minute)}
	for key := uint64(0); ; key++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		s.compareOnce(ctx, key)
	}
}

// comparing is what one comparison leaves to the next one. Used by RunCompare alone.
type comparing struct {
	lease   time.Duration
	epoch   uint64 // that db_proxy answered last
	failing bool
	kept    bool // rows were kept, and the log says so
}

// ownerOf names the process of s to db_proxy; nil before it has an address.
func ownerOf(s *Server) *pb.FileListOwner {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.addresses) == 0 {
		return nil
	}
	spool, a := s.spool.ID(), s.addresses[0]
	return pb.FileListOwner_builder{
		Server: proto.String(net.JoinHostPort(a.IP, strconv.FormatUint(uint64(a.Port), 10))),
		Spool:  spool[:], Epoch: proto.Uint64(s.compared.epoch),
		Lease: proto.Uint32(uint32(min(s.compared.lease, im.MaxSpoolLease) / time.Second)),
	}.Build()
}

// compareOnce runs one comparison and logs it. Of successive failures only the first is
// logged as a warning.
func (s *Server) compareOnce(ctx context.Context, key uint64) {
	c := &comparison{s: s, key: key, due: map[string]spool.Info{}, owner: ownerOf(s)}
	err := c.run(ctx)
	if ctx.Err() != nil {
		return
	}
	level, failing := slog.LevelDebug, s.compared.failing
	s.compared.failing = err != nil
	if err != nil {
		if !failing {
			level = slog.LevelWarn
		}
		s.metrics.compared.WithLabelValues("failed").Inc()
		s.log.Log(ctx, level,
			"files not compared with the list; a db_proxy of the first implementation cannot be "+
				"asked", "err", err,
			"rows", c.rows, "listed", c.listed, "removed", c.removed, "forgotten", c.forgotten)
		return
	}
	if failing || c.listed+c.refused+c.removed+c.forgotten+c.left > 0 {
		level = slog.LevelInfo
	}
	s.metrics.compared.WithLabelValues("done").Inc()
	s.log.Log(ctx, level, "files compared with the list", "rows", c.rows, "others", c.others,
		"listed", c.listed, "refused", c.refused,
		"removed", c.removed, "forgotten", c.forgotten, "left", c.left)
	if c.kept > 0 && !s.compared.kept {
		s.log.Warn("files of this server's address that are not in its folder stay in the list: "+
			"another file server with the address compares, or did so until a moment ago "+
			"(settings file.advertise_ip and file.advertise_port), or db_proxy is of an older "+
			"version", "files", c.kept, "addr", c.owner.GetServer())
	}
	s.compared.kept = c.kept > 0
}

// run reads the whole list, and then repairs it.
func (c *comparison) run(ctx context.Context) error {
	c.s.sweep(ctx) // deletes expired files first
	for _, info := range c.s.spool.Waiting(c.s.opt.Now().Add(-c.s.opt.Grace)) {
		c.due[info.ID] = info
	}
	for after := uint32(0); ; {
		req := pb.IMFileListReq_builder{After: proto.Uint32(after)}.Build()
		if after == 0 && c.owner != nil {
			req.SetOwner(c.owner)
		}
		m, err := c.ask(ctx, req)
		if err != nil {
			return err
		}
		page, ok := m.(*pb.IMFileListRsp)
		if !ok || page.GetLast() != 0 && page.GetLast() <= after {
			return im.Errorf(im.Malformed, "answer %s that is no page after %d", m.Command(), after)
		}
		if epoch := page.GetEpoch(); epoch > 0 && c.owner != nil {
			c.owns, c.s.compared.epoch = true, epoch
			c.owner.SetEpoch(epoch)
		}
		for _, row := range page.GetFiles() {
			c.look(row)
		}
		if after = page.GetLast(); after == 0 {
			break
		}
	}
	if err := c.forgetRows(ctx); err != nil {
		return err
	}
	return c.listFiles(ctx)
}

// ask sends a request to db_proxy and waits for the answer.
func (c *comparison) ask(ctx context.Context, req pb.Attachment) (pb.Message, error) {
	if err := backoff.Sleep(ctx, listPause); err != nil {
		return nil, err
	}
	type answer struct {
		m   pb.Message
		err error
	}
	got := make(chan answer, 1)
	c.s.opt.List.Call(nil, c.key, 0, req, func(m pb.Message, err error) { got <- answer{m, err} })
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case a := <-got:
		return a.m, a.err
	}
}

// look compares one row with the spool.
func (c *comparison) look(row *pb.ListedFile) {
	c.rows++
	info, _, here := c.s.spool.Lookup(row.GetTaskId())
	fits := here && info.From == row.GetFromUserId() && info.To == row.GetToUserId()
	switch {
	case fits:
		delete(c.due, info.ID)
	case !here && !c.s.made(row.GetTaskId()):
		c.others++
	case time.Duration(row.GetAge())*time.Second < c.s.opt.Grace:
	case len(c.forget) >= maxRepairs:
		c.left++
	default:
		c.forget = append(c.forget, row)
	}
}

// made reports whether an id was created by this server.
func (s *Server) made(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.addresses) > 0 && im.SealedTask(id, s.addresses[0].IP, s.addresses[0].Port)
}

// forgetRows asks db_proxy to forget rows without a file, if this spool has the lease.
func (c *comparison) forgetRows(ctx context.Context) error {
	if !c.owns {
		c.count("kept", &c.kept, len(c.forget))
		return nil
	}
	for len(c.forget) > 0 {
		n := min(repairBatch, len(c.forget))
		rsp, err := c.repair(ctx, pb.IMFileListRepairReq_builder{Forget: c.forget[:n],
			Owner: c.owner}.Build())
		if err != nil {
			return err
		}
		c.count("forgotten", &c.forgotten, int(rsp.GetForgotten()))
		c.forget = c.forget[n:]
	}
	return nil
}

// listFiles asks db_proxy to list files that were not in the list, and deletes the files
// that their receivers had removed from it.
func (c *comparison) listFiles(ctx context.Context) error {
	var all []spool.Info
	for _, info := range c.due {
		switch {
		case im.CheckOfflineFile(im.OfflineFile{Task: info.ID, Name: info.Name}) != nil:
			c.count("refused", &c.refused, 1) // its receiver was only notified of it
		case len(all) >= maxRepairs:
			c.left++
		default:
			all = append(all, info)
		}
	}
	for len(all) > 0 {
		batch := all[:min(repairBatch, len(all))]
		all = all[len(batch):]
		if err := c.listBatch(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) listBatch(ctx context.Context, batch []spool.Info) error {
	var list []*pb.ListedFile
	var asked []spool.Info
	for _, info := range batch {
		if _, state, ok := c.s.spool.Lookup(info.ID); !ok || state != spool.Waiting {
			continue // fetched or deleted meanwhile
		}
		asked = append(asked, info)
		list = append(list, pb.ListedFile_builder{FromUserId: proto.Uint32(info.From),
			ToUserId: proto.Uint32(info.To), TaskId: proto.String(info.ID),
			FileName: proto.String(info.Name), FileSize: proto.Uint32(info.Size)}.Build())
	}
	if len(list) == 0 {
		return nil
	}
	rsp, err := c.repair(ctx, pb.IMFileListRepairReq_builder{List: list}.Build())
	if err != nil {
		return err
	}
	if len(rsp.GetResults()) != len(list) {
		return im.Errorf(im.Malformed, "%d results for %d files", len(rsp.GetResults()), len(list))
	}
	for i, r := range rsp.GetResults() {
		switch r {
		case pb.ListResult_LIST_RESULT_LISTED:
			c.count("listed", &c.listed, 1)
		case pb.ListResult_LIST_RESULT_REFUSED:
			c.count("refused", &c.refused, 1)
		case pb.ListResult_LIST_RESULT_TAKEN:
			if c.s.takeOff(asked[i].ID) == nil {
				c.count("removed", &c.removed, 1)
			}
		}
	}
	return nil
}

func (c *comparison) repair(ctx context.Context,
	req *pb.IMFileListRepairReq) (*pb.IMFileListRepairRsp, error) {
	m, err := c.ask(ctx, req)
	if err != nil {
		return nil, err
	}
	rsp, ok := m.(*pb.IMFileListRepairRsp)
	if !ok {
		return nil, im.Errorf(im.Malformed, "answer %s to a repair", m.Command())
	}
	return rsp, nil
}

func (c *comparison) count(what string, sum *int, n int) {
	*sum += n
	c.s.metrics.repairs.WithLabelValues(what).Add(float64(n))
}
