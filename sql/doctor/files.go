package doctor

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"teamtalk/core/blob"
	"teamtalk/core/im"
	"teamtalk/core/spool"
)

// Files are the files on this machine. Those whose field is empty or nil are not reached
// from here, and not compared.
type Files struct {
	// Waiting is the folder of waiting files, FileServer the address, as host:port, of
	// the file server that uses it. Ids of files are sealed with it.
	Waiting, FileServer string
	// Whole says that the file server and the small file server of this machine are the
	// only ones.
	Whole bool
	// Grace is the age below which files and rows are not compared.
	Grace time.Duration
	// Sounds has the sounds that db_proxy keeps itself, Small the small files.
	Sounds, Small blob.Ager
	// SmallURL is the address under which clients know the files in Small.
	SmallURL string
	// Expire says that small files are deleted by their age.
	Expire bool

	db    reader
	store im.Store // nil: no repairs
}

// checks returns the checks of files. more are checks between tables that belong to them.
func (o Files) checks(more []Check) []Check {
	list := []Check{
		&fileRows{Files: o}, &spoolFiles{Files: o},
		o.small("sounds", "rows of sounds with the files of the sounds", "IMAudio", "path",
			"sound"),
	}
	list = append(list, more...)
	return append(list,
		o.small("avatars", "avatars of users with small files", "IMUser", "avatar",
			"avatar of user"),
		o.small("group-avatars", "avatars of groups with small files", "IMGroup", "avatar",
			"avatar of group"))
}

// sealed reports whether the file server of this machine has made the id of a file.
func (o *Files) sealed(task string) bool {
	host, port, err := net.SplitHostPort(o.FileServer)
	n, bad := strconv.ParseUint(port, 10, 16)
	return err == nil && bad == nil && im.SealedTask(task, host, uint32(n))
}

// hold locks the folder of waiting files, and returns the id of its spool.
func (o *Files) hold() (owner im.SpoolOwner, release func() error, err error) {
	spoolID, lock, err := spool.Hold(o.Waiting)
	if err != nil {
		return owner, nil, im.WithKind(im.Denied, "a file server uses the folder, and repairs its "+
			"list by itself: stop it for a repair by this command", err)
	}
	server := o.FileServer
	if server == "" {
		server = "this machine"
	}
	return im.SpoolOwner{Server: server, Spool: spoolID, Lease: time.Minute}, lock.Close, nil
}

// fileRows compares the list of waiting files with the folder.
type fileRows struct {
	Files
	others int
}

// About describes the check.
func (c *fileRows) About() About {
	return About{
		Name:     "file-rows",
		Compares: "the list of waiting files with the folder of the file server",
		Repair: "the row of a missing file leaves the list, without being marked as fetched; if " +
			"the file is found again, it is listed again",
		Offline: "the file server of this folder",
	}
}

// Subjects returns rows of the list; see Check.
func (c *fileRows) Subjects(ctx context.Context, after uint64, most int) ([]uint64, error) {
	if c.Waiting == "" {
		return nil, nil
	}
	return subjectRows(ctx, c.db, rowIDs("IMTransmitFile"), after, most)
}

// Look compares rows; see Check.
func (c *fileRows) Look(ctx context.Context, ids []uint64) (found []Finding, err error) {
	rows, err := querySQL(ctx, c.db, "SELECT id, fromId, toId, taskId, created "+
		"FROM IMTransmitFile WHERE status=0 AND id IN ("+join(ids)+") ORDER BY id")
	if err != nil {
		return nil, err
	}
	tasks := make([]string, len(rows))
	for i, r := range rows {
		tasks[i] = r[3]
	}
	all, err := spool.ViewSome(c.Waiting, tasks)
	if err != nil {
		return nil, err
	}
	old := uint64(time.Now().Add(-c.Grace).Unix())
	for _, r := range rows {
		f, here := all[r[3]]
		fits := here && f.From == id(r[1]) && f.To == id(r[2])
		switch {
		case fits || number(r[4]) > old:
		case !here && !c.Whole && !c.sealed(r[3]):
			c.others++
		default:
			found = append(found, Finding{Subject: number(r[0]), key: r[3], values: r,
				Text: fmt.Sprintf("file %s from user %s waits for user %s, and is not in the "+
					"folder", r[3], r[1], r[2])})
		}
	}
	return found, nil
}

// Note says what was not compared.
func (c *fileRows) Note() string {
	switch {
	case c.Waiting == "":
		return "not compared: there is no folder of waiting files on this machine"
	case c.others > 0:
		return "files of other file servers were not compared: run the command on their machines"
	}
	return ""
}

// Mend removes rows from the list; see Check.
func (c *fileRows) Mend(ctx context.Context, found []Finding) error {
	owner, release, err := c.hold()
	if err != nil {
		return err
	}
	defer release()
	if owner.Epoch, err = c.store.KeepSpool(ctx, owner); err != nil {
		return err
	}
	if owner.Epoch == 0 {
		return im.Errorf(im.Denied, "another file server has the lease of the address %s",
			owner.Server)
	}
	for _, f := range found {
		if _, err := c.store.ForgetOfflineFile(ctx, owner, id(f.values[1]), id(f.values[2]),
			f.values[3]); err != nil {
			return err
		}
	}
	return nil
}

// spoolFiles compares the folder of waiting files with the list.
type spoolFiles struct {
	Files
	ids    []string // a subject is an index into it, from 1
	others int
}

// About describes the check.
func (c *spoolFiles) About() About {
	return About{
		Name:     "spool-files",
		Compares: "the folder of the file server with the list of waiting files",
		Repair:   "the file is listed for its receiver",
		Offline:  "the file server of this folder",
	}
}

// Subjects returns files; see Check.
func (c *spoolFiles) Subjects(_ context.Context, after uint64, most int) (list []uint64,
	err error) {
	if after == 0 && c.Waiting != "" {
		here, err := spool.View(c.Waiting)
		if err != nil {
			return nil, err
		}
		c.ids = slices.Sorted(maps.Keys(here))
	}
	for n := after + 1; n <= uint64(len(c.ids)) && len(list) < most; n++ {
		list = append(list, n)
	}
	return list, nil
}

// Look compares files; see Check.
func (c *spoolFiles) Look(ctx context.Context, subjects []uint64) (found []Finding, err error) {
	tasks := make([]string, len(subjects))
	for i, n := range subjects {
		tasks[i] = c.ids[n-1]
	}
	here, err := spool.ViewSome(c.Waiting, tasks)
	if err != nil {
		return nil, err
	}
	for i, task := range tasks {
		f, ok := here[task]
		if !ok || f.State != spool.Waiting || time.Since(f.Since) < c.Grace {
			continue
		}
		if !c.Whole && !c.sealed(task) {
			c.others++
			continue
		}
		from, to := fmt.Sprint(f.From), fmt.Sprint(f.To)
		found = append(found, Finding{Subject: subjects[i], key: task,
			values: []string{task, f.Name, fmt.Sprint(f.Size), from, to},
			Text:   fmt.Sprintf("file %s from user %s for user %s is in no list", task, from, to)})
	}
	listed, err := c.listed(ctx, found)
	return slices.DeleteFunc(found, func(f Finding) bool {
		return listed[[3]string{f.values[0], f.values[3], f.values[4]}]
	}), err
}

// listed returns those of the files that are in lists, by their id, sender and receiver.
func (c *spoolFiles) listed(ctx context.Context, files []Finding) (map[[3]string]bool, error) {
	if len(files) == 0 {
		return nil, nil
	}
	// The embedded store has an index that begins with the receiver, MySQL one of the ids.
	var receivers, tasks []any
	for _, f := range files {
		receivers, tasks = append(receivers, id(f.values[4])), append(tasks, f.values[0])
	}
	marks := "(?" + strings.Repeat(", ?", len(files)-1) + ")"
	rows, err := querySQL(ctx, c.db, "SELECT taskId, fromId, toId FROM IMTransmitFile "+
		"WHERE toId IN "+marks+" AND taskId IN "+marks, append(receivers, tasks...)...)
	if err != nil {
		return nil, err
	}
	listed := map[[3]string]bool{}
	for _, r := range rows {
		listed[[3]string{r[0], r[1], r[2]}] = true
	}
	return listed, nil
}

// Note says what was not compared.
func (c *spoolFiles) Note() string {
	if c.others > 0 {
		return fmt.Sprintf("%d files were not compared: their ids are not those of the file "+
			"server at %s", c.others, c.FileServer)
	}
	return (&fileRows{Files: c.Files}).Note()
}

// Mend lists files; see Check. A file that its users may not have any more stays
// unlisted.
func (c *spoolFiles) Mend(ctx context.Context, found []Finding) error {
	_, release, err := c.hold()
	if err != nil {
		return err
	}
	defer release()
	for _, f := range found {
		v := f.values
		err := c.store.AddOfflineFile(ctx, im.OfflineFile{Task: v[0], Name: v[1],
			Size: id(v[2]), From: id(v[3]), To: id(v[4])})
		if err != nil && im.KindOf(err) != im.Invalid && im.KindOf(err) != im.Denied {
			return err
		}
	}
	return nil
}

// smallFiles compares a column with names of files with the places of files.
type smallFiles struct {
	Files
	about         About
	table, column string
	what          string // begins a text
	elsewhere     int    // files that are not kept on this machine
}

func (o Files) small(name, compares, table, column, what string) Check {
	return &smallFiles{Files: o, about: About{Name: name, Compares: compares}, table: table,
		column: column, what: what}
}

// About describes the check.
func (c *smallFiles) About() About { return c.about }

// Subjects returns rows; see Check.
func (c *smallFiles) Subjects(ctx context.Context, after uint64, most int) ([]uint64, error) {
	if c.Sounds == nil && c.Small == nil {
		return nil, nil
	}
	return subjectRows(ctx, c.db, rowIDs(c.table), after, most)
}

// Look compares rows; see Check.
func (c *smallFiles) Look(ctx context.Context, ids []uint64) (found []Finding, err error) {
	rows, err := querySQL(ctx, c.db, "SELECT id, "+c.column+" FROM "+c.table+" WHERE id IN ("+
		join(ids)+") AND "+c.column+"<>'' ORDER BY id")
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		place, name := c.place(r[1])
		if place == nil {
			c.elsewhere++
			continue
		}
		_, err := place.Age(ctx, name)
		if err != nil && im.KindOf(err) != im.NotFound {
			return nil, err
		}
		if err != nil {
			found = append(found, Finding{Subject: number(r[0]), key: r[1], values: r,
				Text: fmt.Sprintf("%s %s: the file %s does not exist", c.what, r[0], name)})
		}
	}
	return found, nil
}

// The names that servers of this project give to sounds and to small files.
var (
	soundName = regexp.MustCompile(`^[0-9a-f]{2}/[0-9a-f]{32}(\.[a-z0-9]+)?$`)
	smallName = regexp.MustCompile(`^g0/[0-9]{3}/[0-9]{3}/[0-9a-f]{32}[^/]*$`)
)

// place returns the place of a file on this machine, and its name there; nil when it is
// kept elsewhere, or not known.
func (c *smallFiles) place(text string) (blob.Ager, string) {
	if soundName.MatchString(text) {
		return c.Sounds, text
	}
	u, err := url.Parse(text)
	if err != nil || c.Small == nil || c.Expire {
		return nil, ""
	}
	ours, err := url.Parse(c.SmallURL)
	name := strings.TrimLeft(u.Path, "/")
	if err != nil || !smallName.MatchString(name) || blob.Check(name) != nil {
		return nil, ""
	}
	if u.Host != ours.Host && !(c.SmallURL == "" && c.Whole) {
		return nil, ""
	}
	return c.Small, name
}

// Note says what was not compared.
func (c *smallFiles) Note() string {
	switch {
	case c.Sounds == nil && c.Small == nil:
		return "not compared: the files are not on this machine"
	case c.elsewhere > 0 && c.Expire:
		return fmt.Sprintf("%d files were not compared: they are elsewhere, or expire by their age",
			c.elsewhere)
	case c.elsewhere > 0:
		return fmt.Sprintf("%d files were not compared: they are elsewhere", c.elsewhere)
	}
	return ""
}

// Mend does nothing: a file that is lost cannot be made again.
func (c *smallFiles) Mend(context.Context, []Finding) error { return nil }
