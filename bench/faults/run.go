package faults

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"slices"

	"teamtalk/bench"
	"teamtalk/bench/faults/deploy"
	"teamtalk/bench/faults/services"
	"teamtalk/core/client/tcp"
	"teamtalk/core/im"
	"teamtalk/proto/pb"
)

// Row is the result of a fault that was injected several times.
type Row struct {
	Fault  string `json:"fault"`
	Rounds int    `json:"rounds"` // injected
	Counts
	// Silence is the longest time in which a client got no ack in a conversation while a text
	// waited for one. Down is the longest time from the begin of a fault until all servers
	// were ready again. Beyond is the longest wait after that moment: of a text for its ack,
	// or of a client for its connection. All are in milliseconds.
	Silence int64  `json:"silence_ms"`
	Down    int64  `json:"down_ms"`
	Beyond  int64  `json:"beyond_ms"`
	Worst   string `json:"worst,omitempty"` // describes the wait of Beyond
	// Silent describes the text whose ack ended the silence.
	Silent string `json:"silent,omitempty"`
	// HeldUp is the longest time for which the machine did not run this process although it
	// was to run, in milliseconds. The servers were held up for about as long.
	HeldUp  int64   `json:"held_up_ms"`
	Seconds float64 `json:"seconds"`
	// Services are the results of what carries no texts of clients.
	Services []services.Counts `json:"services"`
}

// Result is the result of a run.
type Result struct {
	Deployment  string  `json:"deployment"`
	Redis       string  `json:"redis,omitempty"` // empty: that of the deployment
	Deployments int     `json:"deployments"`     // that ran at once
	Seed        uint64  `json:"seed"`
	Rate        float64 `json:"rate"`    // in each deployment
	Clients     int     `json:"clients"` // in each deployment
	Repeats     bool    `json:"repeats"` // a repeated text is a failure
	// MaxBeyond is the longest Row.Beyond that is no failure, in milliseconds; 0: any.
	MaxBeyond int64         `json:"max_beyond_ms,omitempty"`
	Machine   bench.Machine `json:"machine"`
	Build     string        `json:"build,omitempty"`
	Stopped   bool          `json:"stopped,omitempty"` // the run was interrupted
	Rows      []Row         `json:"rows"`
	Notes     []string      `json:"notes,omitempty"` // of processes that crashed
}

// Clean reports whether nothing was lost, duplicated, reordered or wrong in another way, and
// no silence was too long.
func (r *Result) Clean() bool {
	return len(r.Notes) == 0 &&
		!slices.ContainsFunc(r.Rows, func(row Row) bool { return !r.cleanRow(row) })
}

// cleanRow reports the same for one row.
func (r *Result) cleanRow(row Row) bool {
	return row.Clean(r.Repeats) && (r.MaxBeyond == 0 || row.Beyond <= r.MaxBeyond) &&
		!slices.ContainsFunc(row.Services, func(c services.Counts) bool { return !c.Clean() })
}

// newResult returns the result of a run without rows.
func newResult(o Options) *Result {
	return &Result{Deployment: o.Deployment, Redis: o.Redis,
		Deployments: max(1, o.Deployments), Seed: o.Seed, Rate: o.Rate,
		Clients: o.Teams * teamSize, Repeats: o.Repeats,
		MaxBeyond: o.MaxBeyond.Milliseconds(), Machine: bench.ThisMachine()}
}

// run is a run.
type run struct {
	Options
	sys     *deploy.System
	tables  Tables
	cipher  *im.TextCipher
	clients []sender
	names   []string          // of the clients
	flows   []flow            // the writers and their conversations
	members map[Conv][]Member // of each conversation that texts are sent to
	readers map[uint32]bool   // users that write to no group
	churn   *churn            // the group whose members change

	services *services.All
}

// flow is a client that writes to a conversation.
type flow struct {
	client sender
	name   string
	conv   Conv
}

// teamSize is the number of clients of a team.
const teamSize = 6

// Run runs a deployment and injects faults. When ctx ends, Run injects no further fault,
// checks the present row, and returns the rows so far. All processes have ended when it
// returns.
func Run(ctx context.Context, o Options) (*Result, error) {
	if o.Deployments > 1 {
		return runParallel(ctx, o)
	}
	r := &run{Options: o, members: map[Conv][]Member{}, readers: map[uint32]bool{}}
	res := newResult(o)
	var err error
	if r.cipher, err = im.NewTextCipher(""); err != nil {
		return nil, err
	}
	r.sys, err = deploy.Start(ctx, deploy.Options{Kind: o.Deployment, Redis: o.Redis,
		Binary: o.Binary, Dir: o.Dir,
		Users: o.Teams*teamSize + 1 + services.Users, Flags: o.Flags,
		SmallDisk: NeedsDisk(o.Faults)})
	if err != nil {
		return nil, err
	}
	defer r.sys.Close()
	list, err := choose(r.sys, o.Faults)
	if err != nil {
		return nil, err
	}
	if r.tables, err = o.OpenTables(ctx, r.sys.DSN, r.sys.DataDir); err != nil {
		return nil, err
	}
	defer r.tables.Close()
	defer func() {
		for _, c := range r.clients {
			c.close()
		}
	}()
	for team := range o.Teams {
		if err := r.addTeam(ctx, team); err != nil {
			return nil, err
		}
	}
	if err := r.addChurn(ctx); err != nil {
		return nil, err
	}
	if err := r.addServices(ctx); err != nil {
		return nil, err
	}
	defer r.services.Close()
	for i, f := range list {
		if ctx.Err() != nil {
			break
		}
		row, err := r.row(ctx, i, f)
		if err != nil {
			return res, fmt.Errorf("%s: %w", f.name, err)
		}
		res.Rows = append(res.Rows, row)
		r.progress(res, row)
	}
	res.Stopped = ctx.Err() != nil
	res.Notes = r.crashes()
	return res, nil
}

// crashes returns a note for each log with a panic or a data race.
func (r *run) crashes() (notes []string) {
	for _, role := range servers(r.sys) {
		text, err := os.ReadFile(role.Log())
		if err != nil {
			continue
		}
		for _, bad := range []string{"panic:", "DATA RACE", "fatal error:"} {
			if bytes.Contains(text, []byte(bad)) {
				notes = append(notes, fmt.Sprintf("%s: %q in %s", role.Name, bad, role.Log()))
			}
		}
	}
	return notes
}

// addTeam adds six clients: two pairs of clients of this project and a pair of stock
// clients, whose members write to each other over different message servers, and a group
// of all six. Three of them write to the group.
func (r *run) addTeam(ctx context.Context, team int) error {
	var users []uint32
	first := len(r.clients)
	for i := range teamSize {
		n := team*teamSize + i + 1
		name, user := fmt.Sprint("client ", n), deploy.User(n)
		addr := r.sys.Clients[(i+i/2)%2] // the members of each pair on different servers
		var c sender
		var err error
		if i < 4 {
			c, err = openOwn(ctx, name, user, addr, r.loginOf(n), r.Log)
		} else {
			c, err = openStock(ctx, name, user, findBy(r.loginOf(n), addr), r.cipher)
		}
		if err != nil {
			return err
		}
		r.clients, r.names = append(r.clients, c), append(r.names, name)
		users = append(users, c.id())
	}
	groups := r.clients[first].(*own).client.Groups
	g, err := groups.Create(ctx, fmt.Sprint("team ", team), "", users)
	if err != nil {
		return err
	}
	for i := 0; i < teamSize; i += 2 {
		c := pair(users[i], users[i+1])
		r.addFlow(first+i, c)
		r.addFlow(first+i+1, c)
		r.addMembers(c, first+i, first+i+1)
	}
	group := Conv{Group: g.ID}
	for i := range teamSize {
		r.addMembers(group, first+i)
		if i%2 == 0 {
			r.addFlow(first+i, group)
		} else {
			r.readers[users[i]] = true
		}
	}
	return nil
}

// addFlow adds a flow of a client.
func (r *run) addFlow(i int, c Conv) {
	r.flows = append(r.flows, flow{r.clients[i], r.names[i], c})
}

// addMembers adds clients to a conversation.
func (r *run) addMembers(c Conv, clients ...int) {
	for _, i := range clients {
		r.members[c] = append(r.members[c], Member{r.names[i], r.clients[i].id()})
		if s, ok := r.clients[i].(*stock); ok {
			s.join(c)
		}
	}
}

// churn is a group to which one user is added and from which it is removed, again and
// again.
type churn struct {
	owner *own
	group uint32
	user  uint32
	users []uint32 // the members that remain

	in      bool // the last change that was answered added the user
	inDoubt bool // the last change was not answered
}

// addChurn creates the group.
func (r *run) addChurn(ctx context.Context) error {
	c := &churn{owner: r.clients[0].(*own)}
	for _, s := range r.clients {
		c.users = append(c.users, s.id())
	}
	slices.Sort(c.users)
	g, err := c.owner.client.Groups.Create(ctx, "changing", "", c.users)
	if err != nil {
		return err
	}
	c.group = g.ID
	conn, err := r.login(ctx, r.Teams*teamSize+1, 0)
	if err != nil {
		return err
	}
	c.user = conn.UserID()
	r.churn = c
	return conn.Close()
}

// change changes the group. A change without an answer is made again.
func (c *churn) change(ctx context.Context) {
	t := pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
	if c.in {
		t = pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL
	}
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	_, err := c.owner.client.Groups.ChangeMembers(ctx, c.group, t, []uint32{c.user})
	c.inDoubt = err != nil
	if err == nil {
		c.in = !c.in
	}
}

// membership returns the members as the answers say; false when an answer is missing.
func (c *churn) membership() (Membership, bool) {
	users := slices.Clone(c.users)
	if c.in {
		users = append(users, c.user)
	}
	slices.Sort(users)
	return Membership{"the answers to its creator", c.group, users}, !c.inDoubt
}

// login logs a user in on a connection of its own, to ask for its data.
func (r *run) login(ctx context.Context, n int, kind pb.ClientType) (*tcp.Conn, error) {
	addr, err := findBy(r.loginOf(n), r.sys.Clients[n%len(r.sys.Clients)])(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := tcp.Dial(ctx, addr, tcp.Options{})
	if err != nil {
		return nil, err
	}
	_, err = conn.Login(ctx, tcp.Credentials{User: deploy.User(n), Password: deploy.Password,
		ClientType: kind})
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// schedule returns the numbers of a row. They depend on the seed and on the fault only.
func (r *run) schedule(f fault) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(f.name)) // never fails
	return rand.New(rand.NewPCG(r.Seed, h.Sum64()))
}
