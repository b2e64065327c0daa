package dbproxy_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"teamtalk/core/im"
	"teamtalk/handlers/dbproxy"
	"teamtalk/proto/pb"
)

func (f *faulty) CredentialsChangedSince(ctx context.Context, since, after uint32,
	limit int) ([]im.Credential, uint32, error) {
	if err := f.before(); err != nil {
		return nil, 0, err
	}
	return f.Store.CredentialsChangedSince(ctx, since, after, limit)
}

func credentialsReq(since, after uint32) *pb.IMCredentialsReq {
	return pb.IMCredentialsReq_builder{Since: &since, After: &after,
		AttachData: []byte("back")}.Build()
}

// TestCredentialOfLogin: the answer to a login contains a credential, for message servers
// that set tell_failure.
func TestCredentialOfLogin(t *testing.T) {
	h := open(t, options{db: dbproxy.Options{LinkHeartbeat: time.Hour}})
	p := h.dial()
	a, err := h.store.AccountByName(t.Context(), "u00001")
	if err != nil {
		t.Fatal(err)
	}
	for _, tell := range []bool{false, true} {
		req := pb.IMValidateReq_builder{UserName: proto.String("u00001"),
			Password: proto.String(im.ClientPassword("pw")), TellFailure: &tell}.Build()
		want := ""
		if tell {
			want = im.CredentialDigest(a.Password, a.Salt)
		}
		rsp := ask[*pb.IMValidateRsp](p, 1, req)
		if string(rsp.GetCredential()) != want || rsp.GetResultCode() != 0 {
			t.Errorf("tell_failure %v: %v", tell, rsp)
		}
	}
}

// TestChangedCredentials: changed users are answered, from one read a second.
func TestChangedCredentials(t *testing.T) {
	h := open(t, options{db: dbproxy.Options{LinkHeartbeat: time.Hour}})
	p := h.dial()
	first := ask[*pb.IMCredentialsRsp](p, 1, credentialsReq(0, 0))
	a, err := h.store.AccountByName(t.Context(), "u00001")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(first.GetList()); n != 0 || string(first.GetAttachData()) != "back" ||
		first.GetNextSince() != a.Updated-60 && first.GetNextSince() != a.Updated-59 {
		t.Fatalf("first answer: %v, user changed at %d", first, a.Updated)
	}
	if err := h.store.SetUserStatus(t.Context(), a.ID, im.StatusDeparted); err != nil {
		t.Fatal(err)
	}
	var reads atomic.Int32
	h.store.set(func() error { reads.Add(1); return nil })
	since := first.GetNextSince()
	for range 5 {
		rsp := ask[*pb.IMCredentialsRsp](p, 2, credentialsReq(since, 0))
		if len(rsp.GetList()) != 10 || rsp.GetMore() {
			t.Fatalf("changed: %v", rsp)
		}
		for _, c := range rsp.GetList() {
			disabled := im.UserStatus(c.GetStatus()) == im.StatusDeparted
			if disabled != (c.GetUserId() == a.ID) || len(c.GetCredential()) != 8 {
				t.Errorf("credential %v", c)
			}
		}
	}
	if n := reads.Load(); n != 1 {
		t.Errorf("%d reads", n)
	}
	// A change that has been known for two minutes is not answered again.
	h.clock.Add(3 * time.Minute)
	rsp := ask[*pb.IMCredentialsRsp](p, 3, credentialsReq(since, 0))
	rsp = ask[*pb.IMCredentialsRsp](p, 4, credentialsReq(rsp.GetNextSince(), 0))
	if len(rsp.GetList()) != 0 || reads.Load() != 3 {
		t.Errorf("after 3 minutes: %v, %d reads", rsp, reads.Load())
	}
}

// TestCredentialPages: more users than fit in an answer are answered in pages.
func TestCredentialPages(t *testing.T) {
	h := open(t, options{users: 2100, db: dbproxy.Options{LinkHeartbeat: time.Hour}})
	p := h.dial()
	seen := map[uint32]bool{}
	since, after := uint32(1), uint32(0)
	for page, more := 1, true; more; page++ {
		rsp := ask[*pb.IMCredentialsRsp](p, uint16(page), credentialsReq(since, after))
		if len(rsp.GetList()) > 1000 || page > 3 {
			t.Fatalf("page %d of %d users", page, len(rsp.GetList()))
		}
		for _, c := range rsp.GetList() {
			seen[c.GetUserId()] = true
		}
		since, after, more = rsp.GetNextSince(), rsp.GetNextAfter(), rsp.GetMore()
	}
	if len(seen) != 2100 {
		t.Errorf("%d users", len(seen))
	}
}
