package file

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/core/spool"
	"teamtalk/proto/pb"
)

// The files are here, the list by which receivers find them is db_proxy's, and clients carry the news from one to the other: of an upload the sender, through a message server,
// after this server told it that all is safe, and of a download the receiver. Where such news is lost the two differ. So this server reads the whole list now and then, page by
// page, and has it repaired:
//
//   - A file that waits and was never listed is listed.
//   - A file that its receiver has taken off the list is removed.
//   - A row without its file is forgotten, if the file was this server's: its id is sealed with this server's address, or the file is here and for others than the row says.
//     Forgotten, not taken off: should the file be found again – the folder's disk was not mounted –, it is listed again.
//
// A file that was fetched stays listed until it expires: that its last bytes were sent does not mean that they came, and who looks for them must find them.
//
// Nothing is changed before the whole list was read without a failure, and what is younger than Options.Grace is left alone. All decisions are such that an answer which has
// been overtaken does no harm: db_proxy looks again before it lists a file, and only what waits is forgotten.

const (
	// listPause is how long this server waits before each question, so that it never asks more than 50 a second.
	listPause = 20 * time.Millisecond
	// repairBatch is how many files one request names, and maxRepairs how many a comparison may list, and forget; the rest is the next one's.
	repairBatch = 100
	maxRepairs  = 10_000
)

// comparison is one reading of the list.
type comparison struct {
	s      *Server
	key    uint64                // of its requests: they go to one db_proxy
	due    map[string]spool.Info // files that are old enough to be listed, and have not been seen there
	forget []*pb.ListedFile

	// What the log says: rows read, those of other servers among them, and what was repaired. left were too many for once.
	rows, others, listed, refused, removed, forgotten, left int
}

// RunCompare compares the files with db_proxy's list, every interval, the first time after one. It returns when ctx ends, and at once when there is nobody to
// ask (Options.List).
func (s *Server) RunCompare(ctx context.Context, interval time.Duration) {
	if s.opt.List == nil {
		return
	}
	t := time.NewTicker(interval)
	defer t.Stop()
	failing := false
	for key := uint64(0); ; key++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		failing = s.compareOnce(ctx, key, failing)
	}
}

// compareOnce makes one comparison and tells of it; of failures only the first. It reports whether it failed.
func (s *Server) compareOnce(ctx context.Context, key uint64, failing bool) bool {
	c := &comparison{s: s, key: key, due: map[string]spool.Info{}}
	err := c.run(ctx)
	if ctx.Err() != nil {
		return failing
	}
	level := slog.LevelDebug
	if err != nil {
		if !failing {
			level = slog.LevelWarn
		}
		s.metrics.compared.WithLabelValues("failed").Inc()
		s.log.Log(ctx, level, "files not compared with the list; a db_proxy of the first implementation cannot be asked", "err", err,
			"rows", c.rows, "listed", c.listed, "removed", c.removed, "forgotten", c.forgotten)
		return true
	}
	if failing || c.listed+c.refused+c.removed+c.forgotten+c.left > 0 {
		level = slog.LevelInfo
	}
	s.metrics.compared.WithLabelValues("done").Inc()
	s.log.Log(ctx, level, "files compared with the list", "rows", c.rows, "others", c.others, "listed", c.listed, "refused", c.refused,
		"removed", c.removed, "forgotten", c.forgotten, "left", c.left)
	return false
}

// run reads the list, and repairs it only then.
func (c *comparison) run(ctx context.Context) error {
	c.s.sweep(ctx) // what has expired is here no more
	for _, info := range c.s.spool.Waiting(c.s.opt.Now().Add(-c.s.opt.Grace)) {
		c.due[info.ID] = info
	}
	for after := uint32(0); ; {
		m, err := c.ask(ctx, pb.IMFileListReq_builder{After: proto.Uint32(after)}.Build())
		if err != nil {
			return err
		}
		page, ok := m.(*pb.IMFileListRsp)
		if !ok || page.GetLast() != 0 && page.GetLast() <= after {
			return im.Errorf(im.Malformed, "answer %s that is no page after %d", m.Command(), after)
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

// ask asks db_proxy.
func (c *comparison) ask(ctx context.Context, req pb.Attachment) (pb.Message, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(listPause):
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

// look decides about a row.
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

// made reports whether an id is one of this server's.
func (s *Server) made(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.addresses) > 0 && im.SealedTask(id, s.addresses[0].IP, s.addresses[0].Port)
}

// forgetRows has rows without a file forgotten.
func (c *comparison) forgetRows(ctx context.Context) error {
	for len(c.forget) > 0 {
		n := min(repairBatch, len(c.forget))
		rsp, err := c.repair(ctx, pb.IMFileListRepairReq_builder{Forget: c.forget[:n]}.Build())
		if err != nil {
			return err
		}
		c.count("forgotten", &c.forgotten, int(rsp.GetForgotten()))
		c.forget = c.forget[n:]
	}
	return nil
}

// listFiles has files listed that were not seen on the list, and removes those of them that their receivers have taken off it.
func (c *comparison) listFiles(ctx context.Context) error {
	var all []spool.Info
	for _, info := range c.due {
		switch {
		case im.CheckOfflineFile(im.OfflineFile{Task: info.ID, Name: info.Name}) != nil:
			c.count("refused", &c.refused, 1) // its receiver was told of it, no more
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
			continue // fetched, or removed, meanwhile
		}
		asked = append(asked, info)
		list = append(list, pb.ListedFile_builder{FromUserId: proto.Uint32(info.From), ToUserId: proto.Uint32(info.To), TaskId: proto.String(info.ID),
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

func (c *comparison) repair(ctx context.Context, req *pb.IMFileListRepairReq) (*pb.IMFileListRepairRsp, error) {
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
