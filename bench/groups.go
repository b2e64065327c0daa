package bench

import (
	"context"
	"fmt"

	"teamtalk/core/pdu"
	"teamtalk/proto/pb"
)

// createGroups creates each group as its first member.
func (p *local) createGroups(ctx context.Context, specs []groupSpec) ([]uint32, error) {
	ids := make([]uint32, len(specs))
	if len(specs) == 0 {
		return ids, nil
	}
	byIndex := make(map[int]*client, len(p.clients))
	for _, c := range p.clients {
		byIndex[c.index] = c
	}
	left := make(chan error, len(p.workers))
	workers := 0
	p.each(func(w *worker) {
		m := &founding{w: w, specs: specs, ids: ids, report: func(err error) { left <- err }}
		for i, spec := range specs {
			if c := byIndex[spec.Creator]; c != nil && c.w == w {
				m.queue = append(m.queue, i)
			}
		}
		w.play = m
		workers++
		m.creators = byIndex
		m.step(groupsAtOnce)
	})
	for range workers {
		select {
		case err := <-left:
			if err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return ids, nil
}

// groupsAtOnce is the number of groups that each loop creates at the same time.
const groupsAtOnce = 16

// founding is a worker's share of creating groups.
type founding struct {
	bystander
	w        *worker
	specs    []groupSpec
	creators map[int]*client
	queue    []int // positions in specs
	next     int
	working  int
	ids      []uint32 // each worker writes only the positions of its own groups
	report   func(error)
	ended    bool
}

func (m *founding) step(n int) {
	for ; n > 0 && m.next < len(m.queue); n-- {
		i := m.queue[m.next]
		m.next++
		m.working++
		req := &pb.IMGroupCreateReq{}
		req.SetUserId(m.specs[i].Members[0])
		req.SetGroupType(pb.GroupType_GROUP_TYPE_TMP)
		req.SetGroupName(fmt.Sprintf("bench %d", m.specs[i].Group+1))
		req.SetGroupAvatar("")
		req.SetMemberIdList(m.specs[i].Members)
		c := m.creators[m.specs[i].Creator]
		c.requestNumber(opCreateGroup, uint32(i), m.w.loop.Now(), req)
		m.w.loop.At(m.w.loop.Now()+int64(m.w.part.scenario.Timeout), func(int64) int64 {
			if m.ids[i] == 0 {
				m.end(fmt.Errorf("group %d: not created within %v", m.specs[i].Group+1,
					m.w.part.scenario.Timeout))
			}
			return 0
		})
	}
	if m.working == 0 {
		m.end(nil)
	}
}

func (m *founding) end(err error) {
	if !m.ended {
		m.ended = true
		m.report(err)
	}
}

func (m *founding) gone(c *client, err error) {
	m.end(fmt.Errorf("user %s, while groups are created: %w", c.name(), err))
}

func (m *founding) answered(c *client, r request, h pdu.Header, body []byte) {
	var rsp pb.IMGroupCreateRsp
	if r.op != opCreateGroup || h.Command != pb.CmdGroupCreateRsp {
		return
	}
	if err := rsp.ParseBody(body); err != nil {
		m.end(fmt.Errorf("user %s: answer to creating a group: %w", c.name(), err))
		return
	}
	if rsp.GetResultCode() != 0 || rsp.GetGroupId() == 0 {
		m.end(fmt.Errorf("user %s: the server did not create the group: result %d", c.name(),
			rsp.GetResultCode()))
		return
	}
	m.ids[r.number] = rsp.GetGroupId()
	m.working--
	m.step(1)
}
