package mesh

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/session"
	"teamtalk/core/whereabouts"
	"teamtalk/proto/pb"
)

// LookupAll fails for the spoilt user alone.
func (s *spoilt) LookupAll(ctx context.Context, users, groups []uint32) ([]whereabouts.Found,
	[]whereabouts.Group) {
	_, of := s.Store.LookupAll(ctx, nil, groups)
	return s.Lookup(ctx, users), of
}

// groupDB is the groups of a cluster, as db_proxy knows them.
type groupDB struct {
	mu     sync.Mutex
	groups map[uint32]*testGroup
	old    bool // it does not know of groups of every type
	// hook is called before and after a question takes effect.
	hook func(by string, after bool) error
}

// testGroup is a group.
type testGroup struct {
	version uint32
	members []uint32
}

// set creates a group.
func (d *groupDB) set(id uint32, members ...uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.groups == nil {
		d.groups = map[uint32]*testGroup{}
	}
	d.groups[id] = &testGroup{version: 1, members: members}
}

// setHook sets the faults of the questions; nil: none.
func (d *groupDB) setHook(h func(by string, after bool) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hook = h
}

// change adds a user to a group, or removes it, and returns the notify.
func (d *groupDB) change(id uint32, added bool, user uint32) *pb.IMGroupChangeMemberNotify {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.groups[id]
	t := pb.GroupModifyType_GROUP_MODIFY_TYPE_DEL
	if g.version++; added {
		t = pb.GroupModifyType_GROUP_MODIFY_TYPE_ADD
		g.members = append(slices.Clone(g.members), user)
	} else {
		g.members = slices.DeleteFunc(slices.Clone(g.members),
			func(u uint32) bool { return u == user })
	}
	return pb.IMGroupChangeMemberNotify_builder{UserId: proto.Uint32(g.members[0]),
		ChangeType: t.Enum(), GroupId: proto.Uint32(id), CurUserIdList: g.members,
		ChgUserIdList: []uint32{user}, Version: proto.Uint32(g.version)}.Build()
}

// text returns a text of a group that is stored now.
func (d *groupDB) text(from, group, id uint32) *pb.MsgData {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := text(from, group, id)
	m.Type, m.HasGroupVersion = pb.MsgType_MSG_TYPE_GROUP_TEXT, true
	m.GroupVersion = d.groups[group].version
	return m
}

// dbLink is the db_proxy as a node reaches it.
type dbLink struct {
	c  *cluster
	by string
}

// Call answers from another goroutine.
func (l *dbLink) Call(_ *session.Loop, _ uint64, _ uint16, req pb.Attachment,
	done func(pb.Message, error)) {
	d := &l.c.db
	d.mu.Lock()
	hook := d.hook
	d.mu.Unlock()
	go func() {
		if hook != nil {
			if err := hook(l.by, false); err != nil {
				done(nil, err)
				return
			}
		}
		rsp, err := d.answer(req), error(nil)
		if hook != nil {
			err = hook(l.by, true)
		}
		done(rsp, err)
	}()
}

// answer answers a question.
func (d *groupDB) answer(req pb.Attachment) pb.Message {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch req := req.(type) {
	case *pb.IMNormalGroupListReq:
		rsp := pb.IMNormalGroupListRsp_builder{UserId: proto.Uint32(req.GetUserId()),
			EveryType: proto.Bool(req.GetEveryType() && !d.old)}.Build()
		for id, g := range d.groups {
			if slices.Contains(g.members, req.GetUserId()) {
				rsp.SetGroupVersionList(append(rsp.GetGroupVersionList(),
					pb.GroupVersionInfo_builder{GroupId: proto.Uint32(id),
						Version: proto.Uint32(g.version)}.Build()))
			}
		}
		return rsp
	case *pb.IMGroupInfoListReq:
		rsp := pb.IMGroupInfoListRsp_builder{UserId: proto.Uint32(0)}.Build()
		id := req.GetGroupVersionList()[0].GetGroupId()
		if g := d.groups[id]; g != nil {
			rsp.SetGroupInfoList([]*pb.GroupInfo{pb.GroupInfo_builder{GroupId: proto.Uint32(id),
				Version: proto.Uint32(g.version), GroupMemberList: g.members}.Build()})
		}
		return rsp
	}
	return nil
}

// errDBAway is the error of a db_proxy that does not answer.
var errDBAway = errors.New("the db_proxy is away")

// pause waits for a time, as a call on its way does.
func pause(d time.Duration) {
	if d > 0 {
		time.Sleep(d)
	}
}

// asks returns a channel that is closed when a node asks next.
func (d *groupDB) asks(by string) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, asked := d.hook, make(chan struct{})
	var once sync.Once
	d.hook = func(of string, after bool) error {
		if of == by && !after {
			once.Do(func() { close(asked) })
		}
		return before(of, after)
	}
	return asked
}
