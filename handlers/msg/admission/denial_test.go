package admission

import (
	"strings"
	"testing"

	"teamtalk/core/audit"
	"teamtalk/proto/pb"
)

// TestDenials: the audit log has a code for each answer of db_proxy, and nothing of the text,
// which is for clients.
func TestDenials(t *testing.T) {
	for code, want := range map[uint32]string{1: audit.WrongPassword, 6: audit.Locked,
		7: audit.Refused} {
		v := &pb.IMValidateRsp{}
		v.SetResultCode(code)
		v.SetResultString("用户名/密码错误次数太多")
		d := deniedBy(v)
		if d.result != want || d.text != v.GetResultString() ||
			(d.detail != "") != (want == audit.Refused) {
			t.Errorf("result code %d: %+v, want %s", code, d, want)
		}
		for _, c := range d.result + d.detail {
			if c > 127 {
				t.Errorf("result code %d: %q %q in the audit log", code, d.result, d.detail)
			}
		}
	}
	for lock, want := range map[string]string{"locked": "unlock NAME", "": "", "else": "",
		"network_locked": "--network ADDRESS", "locked_from_others": "has not logged in: "} {
		v := &pb.IMValidateRsp{}
		v.SetResultCode(6)
		v.SetLock(lock)
		d := deniedBy(v)
		if d.result != audit.Locked || !strings.Contains(d.detail, want) ||
			want == "" && d.detail != "" {
			t.Errorf("lock %q: %+v", lock, d)
		}
	}
	if d := without(pb.ResultType_REFUSE_REASON_NO_DB_SERVER); d.result != "no_db_server" {
		t.Errorf("without db_proxy: %+v", d)
	}
}
