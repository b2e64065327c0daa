package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"teamtalk/core/im"
	"teamtalk/core/web"
	"teamtalk/core/web/webtest"
)

// Requests that outsiders may try, as ABUSE.md lists them. TestAdmission and TestRegister
// contain more of them.

// post returns a call with more header lines, each with its \n.
func post(name, header, body string) string {
	return fmt.Sprintf("POST /query/%s HTTP/1.1\nHost: x\nConnection: close\n%sContent-Length: "+
		"%d\n\n%s", name, header, len(body), body)
}

// code returns the error_code of an answer; -1 when it has none.
func code(answer string) int {
	_, body, _ := strings.Cut(answer, "\r\n\r\n")
	var a struct {
		Code *int `json:"error_code"`
	}
	if json.Unmarshal([]byte(body), &a) != nil || a.Code == nil {
		return -1
	}
	return *a.Code
}

// kick is a call that every app may make.
const kick = `{"app_key":"` + goodKey + `","user_id":1}`

// TestAbuseBodies: a body that is not a JSON object with the right fields is refused as a
// wrong parameter, with any content type.
func TestAbuseBodies(t *testing.T) {
	r := newRig(t, nil)
	deep := strings.Repeat("[", 400_000)
	for _, c := range []struct {
		code int
		body string
	}{
		{0, kick}, {0, kick + "\n "}, {1, kick + "x"}, {1, kick + kick}, {1, ""}, {2, "null"},
		{1, "[]"}, {1, `"x"`}, {1, "7"}, {1, "{"}, {1, "\xff\xfe{"}, {1, "<x/>"},
		{1, "app_key=" + goodKey},
		{1, deep}, {1, `{"a":` + deep + `}`}, {1, strings.Repeat(`{"a":`, 200_000)},
		{1, `{"app_key":"` + goodKey + `","x":"` + strings.Repeat("x", 1<<20) + `"}`},
		{0, `{"app_key":"` + goodKey + `","user_id":1,"unknown":{"a":[1,2]},"user_ID2":7}`},
		// The last of two values counts.
		{0, `{"app_key":"wrong","user_id":0,"app_key":"` + goodKey + `","user_id":1}`},
		{1, `{"app_key":"` + goodKey + `","user_id":1,"user_id":0}`},
	} {
		if a := webtest.Raw(t, r.web, post("KickUser", "Content-Type: text/plain\n",
			c.body)); code(a) != c.code {
			t.Errorf("%.60q: %.200q, want code %d", c.body, a, c.code)
		}
	}
	for _, v := range []string{`"1"`, "-1", "1.5", "1e3", "4294967296", "99999999999999999999999",
		"true", "[1]", "{}", "null", "0", "NaN", "01", "0x1"} {
		if a := webtest.Raw(t, r.web, post("KickUser", "",
			`{"app_key":"`+goodKey+`","user_id":`+v+`}`)); code(a) != 1 {
			t.Errorf("user_id %s: %.200q", v, a)
		}
	}
	for _, v := range []string{"7", "null", "[]", `{"a":"` + goodKey + `"}`} {
		want := 1
		if v == "null" {
			want = 2 // as without a key
		}
		if a := webtest.Raw(t, r.web, post("KickUser", "",
			`{"user_id":1,"app_key":`+v+`}`)); code(a) != want {
			t.Errorf("app_key %s: %.200q", v, a)
		}
	}
	if a := webtest.Raw(t, r.web, post("GetUserStatus", "",
		`{"app_key":"`+goodKey+`","user_id_list":[`+strings.Repeat("1,", maxAsked)+
			`1]}`)); code(a) != 1 {
		t.Errorf("a list of %d: %.200q", maxAsked+1, a)
	}
	r.want(0, "KickUser", `{KEY,"user_id":1}`)
}

// TestWrongTypes: the answer to a value of another type names its field and the type that it takes.
func TestWrongTypes(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range []struct{ call, body, want string }{
		{"KickUser", `"user_id":"7"`,
			"user_id: want a number from 0 to 4294967295, not the string"},
		{"KickUser", `"user_id":1.5`,
			"user_id: want a number from 0 to 4294967295, not the number 1.5"},
		{"KickUser", `"user_id":1` + strings.Repeat("0", 1000), "user_id: want a number from 0 " +
			"to 4294967295, not the number 1" + strings.Repeat("0", 32)},
		{"KickUser", `"app_key":7`, "app_key: want a text, not the number"},
		{"CreateGroup", `"user_id_list":7`, "user_id_list: want a list of numbers, not the number"},
		{"CreateGroup", `"user_id_list":["7"]`,
			"user_id_list: want a number from 0 to 4294967295, not the string"},
		{"CreateGroup", `"group_name":[]`, "group_name: want a text, not the array"},
	} {
		if a := r.want(1, c.call, `{KEY,%s}`, c.body); a["error_msg"] != c.want {
			t.Errorf("%s %.40s: %v, want %s", c.call, c.body, a["error_msg"], c.want)
		}
	}
}

// TestAbuseHTTP: requests in another form than a call have no effect.
func TestAbuseHTTP(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Register = &Register{Open: true} })
	for what, c := range map[string]struct {
		request string
		status  int
	}{
		"GET with the parameters": {"GET /query/KickUser?app_key=" + goodKey +
			"&user_id=1 HTTP/1.1\nHost: x\nConnection: close\n\n", 405},
		"GET with a body": {strings.Replace(post("KickUser", "", kick), "POST", "GET", 1),
			405},
		"a method in a header": {strings.Replace(post("KickUser",
			"X-HTTP-Method-Override: POST\n", kick), "POST", "PUT", 1), 405},
		"OPTIONS, from a browser": {"OPTIONS /query/KickUser HTTP/1.1\nHost: x\nOrigin: " +
			"http://evil\nAccess-Control-Request-Method: POST\nConnection: close\n\n", 405},
		"a call that is none": {post("DropAll", "", kick), 404},
		"another case":        {post("kickuser", "", kick), 404},
		"outside":             {post("../../etc/passwd", "", kick), 307},
		"two lengths":         {post("KickUser", "Content-Length: 1\n", kick), 400},
		"a length beyond all": {"POST /query/KickUser HTTP/1.1\nHost: x\nContent-Length: " +
			"9223372036854775808\n\n", 400},
		"a header without end": {"POST /query/KickUser HTTP/1.1\nHost: x\nX: " +
			strings.Repeat("x", 1<<20), 431},
		"noise":               {"\x16\x03\x01\x02\x00\x01\x00\n\n", 400},
		"an unknown encoding": {post("KickUser", "Transfer-Encoding: gzip\n", kick), 501},
		"a compressed body": {post("KickUser", "Content-Encoding: gzip\n",
			"\x1f\x8b\x08\x00"), 200},
		"a description with a key": {"GET /openapi.json HTTP/1.0\n\n", 200},
	} {
		if a := webtest.Raw(t, r.web, c.request); webtest.Status(a) != c.status ||
			strings.Contains(a, "Access-Control-Allow") || strings.Contains(a, goodKey) {
			t.Errorf("%s: %.300q, want status %d", what, a, c.status)
		}
	}
	if sent := r.route.take(); len(sent) != 0 {
		t.Errorf("a request kicked a user: %v", sent)
	}
}

// TestAbusePages: a request that a page of another site makes through a browser is
// refused, also where registration is open: the browser may be in a network that
// outsiders cannot reach.
func TestAbusePages(t *testing.T) {
	open := &Register{Open: true}
	r := newRig(t, func(o *Options) { o.Register = open })
	open.Accounts = r.store
	register := `{"user_name":"mallory","password":"long enough"}`
	for _, header := range []string{"Origin: http://evil.example\n", "Origin: null\n",
		"Sec-Fetch-Site: cross-site\n", "Sec-Fetch-Site: same-site\nOrigin: http://y.x\n"} {
		for call, body := range map[string]string{"Register": register, "KickUser": kick} {
			if a := webtest.Raw(t, r.web, post(call, header+"Content-Type: text/plain\n",
				body)); code(a) != codeDenied {
				t.Errorf("%s with %q: %q", call, header, a)
			}
		}
	}
	if a := webtest.Raw(t, r.web, post("Register", "Origin: http://x\nSec-Fetch-Site: same-origin\n", register)); code(a) != 0 {
		t.Errorf("from a page of this server: %q", a)
	}
}

// TestAbuseAddress: headers do not change a caller's address, for which its attempts
// count.
func TestAbuseAddress(t *testing.T) {
	r := newRig(t, nil)
	forged := func(i int) string {
		return fmt.Sprintf("X-Forwarded-For: 192.0.2.%d\nX-Real-IP: 192.0.2.%d\nForwarded: "+
			"for=192.0.2.%d\nCF-Connecting-IP: 192.0.2.%d\n", i, i, i, i)
	}
	for i := range triesAtOnce + 5 {
		want := 2
		if i >= triesAtOnce {
			want = 8
		}
		if a := webtest.Raw(t, r.web, post("KickUser", forged(i),
			`{"app_key":"wrong"}`)); code(a) != want {
			t.Errorf("attempt %d: %q, want code %d", i, a, want)
		}
	}
	if a := webtest.Raw(t, r.web, post("KickUser", "", `{"app_key":"wrong too"}`)); code(a) != 8 {
		t.Errorf("without a header: %q", a)
	}
	if a := webtest.Raw(t, r.web, post("KickUser", forged(99), kick)); code(a) != 0 {
		t.Errorf("with a right key: %q", a)
	}
}

// TestAbuseHeldBack: attempts whose bodies arrive at the same time are limited as others
// are, for keys and for invite codes.
func TestAbuseHeldBack(t *testing.T) {
	for call, body := range map[string]string{"KickUser": `{"app_key":"wrong"}`,
		"Register": `{"user_name":"x","password":"long enough","invite_code":"wrong code"}`} {
		r := newRig(t, func(o *Options) { o.Register = &Register{Invites: []string{"come in!"}} })
		const tries = 10 * triesAtOnce
		var conns []net.Conn
		for range tries {
			c := webtest.Dial(t, r.web)
			request := strings.ReplaceAll(post(call, "", body), "\n", "\r\n")
			io.WriteString(c, request[:len(request)-1])
			conns = append(conns, c)
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		codes := map[int]int{}
		for _, c := range conns {
			wg.Go(func() {
				io.WriteString(c, "}")
				b, _ := io.ReadAll(c)
				mu.Lock()
				defer mu.Unlock()
				codes[code(string(b))]++
			})
		}
		wg.Wait()
		if codes[codeKey]+codes[codeTooMany] != tries || codes[codeKey] > triesAtOnce {
			t.Errorf("%s: codes %v, %d attempts at once are allowed", call, codes, triesAtOnce)
		}
	}
}

// TestAbuseRegister: invalid names and passwords, and forms that are too long, are
// refused.
func TestAbuseRegister(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	open := &Register{Open: true}
	r := newRig(t, func(o *Options) { o.Register, o.Now = open, func() time.Time { return now } })
	open.Accounts = r.store
	for _, c := range []struct{ name, nick, password string }{
		// The first letter is not Latin.
		{"a' OR 1=1 --", "", "long enough"}, {"../../x", "", "long enough"},
		{"a\x00b", "", "long enough"}, {"a\nb", "", "long enough"}, {"аdmin", "", "long enough"},
		{strings.Repeat("x", 33), "", "long enough"}, {"-x", "", "long enough"},
		{"mallory", "a\x1b[2Jb", "long enough"}, {"mallory", "a\nb", "long enough"},
		{"mallory", "a\x00", "long enough"},
		{"mallory", "", strings.Repeat("x", maxPassword+1)}, {"mallory", "", "1234567"},
	} {
		now = now.Add(time.Minute)
		body, err := json.Marshal(map[string]string{"user_name": c.name, "nick_name": c.nick,
			"password": c.password})
		if err != nil {
			t.Fatal(err)
		}
		if a := r.call("Register", string(body)); a["error_code"] != float64(codeBad) ||
			a["field"] == "" {
			t.Errorf("%s: %v", body, a)
		}
	}
	if a := r.call("Register", `{"user_name":"mallory","password":"long enough","x":"`+
		strings.Repeat("x", smallBody)+`"}`); a["error_code"] != float64(codeBad) {
		t.Errorf("a form that is too long: %v", a)
	}
	if _, err := r.store.AccountByName(context.Background(),
		"mallory"); im.KindOf(err) != im.NotFound {
		t.Errorf("mallory exists: %v", err)
	}
}

// TestAbuseSlow: slow requests are closed, with an answer where possible. Long requests
// that do not end use a bounded part of the memory, and short ones are still answered.
func TestAbuseSlow(t *testing.T) {
	const short = 100 * time.Millisecond
	r := newRigOn(t, nil, web.Options{HeaderTimeout: short, ReadTimeout: short,
		WriteTimeout: webtest.Patience, IdleTimeout: short})
	webtest.Raw(t, r.web, "") // fails when the connection stays open
	webtest.Raw(t, r.web, "POST /query/KickUser HTTP/1.1\nHo")
	if a := webtest.Raw(t, r.web,
		"POST /query/KickUser HTTP/1.1\nHost: x\nContent-Length: 100\n\n{"); code(a) != 1 ||
		!strings.Contains(a, "in time") {
		t.Errorf("half a body: %q", a)
	}
	webtest.Raw(t, r.web, "GET /query/KickUser HTTP/1.1\nHost: x\nContent-Length: 100\n\n")

	r = newRig(t, nil)
	body := `{"app_key":"` + goodKey + `","user_id":1,"x":"` + strings.Repeat("x", smallBody)
	var held []net.Conn
	for range maxBigBodies + 10 {
		c := webtest.Dial(t, r.web)
		fmt.Fprintf(c,
			"POST /query/KickUser HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n%s", body)
		held = append(held, c)
	}
	full := func() bool {
		return strings.Contains(webtest.Raw(t, r.web, post("KickUser", "", body+`"}`)),
			"too many long requests")
	}
	for deadline := time.Now().Add(webtest.Patience); !full(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("long requests are not bounded")
		}
	}
	if a := webtest.Raw(t, r.web, post("KickUser", "", kick)); code(a) != 0 {
		t.Errorf("a short request beside long ones: %q", a)
	}
	for _, c := range held {
		c.Close()
	}
	for deadline := time.Now().Add(webtest.Patience); code(webtest.Raw(t, r.web,
		post("KickUser", "", body+`"}`))) != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("long requests are still refused")
		}
	}
}

// TestIdleCrowd opens 10,000 silent connections. Calls are still answered, and the silent
// connections are closed.
func TestIdleCrowd(t *testing.T) {
	r := newRigOn(t, nil, webtest.CrowdLimits)
	webtest.IdleCrowd(t, r.web, func() { r.want(0, "KickUser", `{KEY,"user_id":1}`) })
}

// TestPipelined: pipelined calls are made and answered in order.
func TestPipelined(t *testing.T) {
	r := newRig(t, nil)
	c := webtest.Dial(t, r.web)
	one := strings.ReplaceAll(strings.Replace(post("KickUser", "", kick), "Connection: close\n", "",
		1), "\n", "\r\n")
	go io.WriteString(c, strings.Repeat(one, 100))
	in := bufio.NewReader(c)
	for i := range 100 {
		rsp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(i, err)
		}
		if b, err := io.ReadAll(rsp.Body); err != nil || code("\r\n\r\n"+string(b)) != 0 {
			t.Errorf("%d: %q, %v", i, b, err)
		}
	}
}
