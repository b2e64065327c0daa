package config

import (
	"strings"
	"testing"
)

// mistake is a wrong setting, with the texts that its error must hold.
type mistake struct {
	name, file string
	env, args  []string
	want       []string
}

// mistakes are wrong settings in files, in the environment and in flags.
var mistakes = []mistake{
	{name: "unknown key", file: "[msg]\n\nlissen = \":1\"",
		want: []string{"teamtalk.toml:3: msg.lissen: no such setting; did you mean msg.listen?"}},
	{name: "unknown section", file: "[mgs]\nlisten = \":1\"",
		want: []string{
			"teamtalk.toml:2: mgs.listen: no such setting; did you mean msfs.listen or msg.listen?",
		}},
	{name: "wrong section", file: "[server]\npresence = \"all\"",
		want: []string{
			"teamtalk.toml:2: server.presence: no such setting; did you mean msg.presence?",
		}},
	{name: "unlike any setting", file: "[kafka]\nbrokers = \"x\"",
		want: []string{"kafka.brokers: no such setting; \"teamtalk config\" lists all"}},
	{name: "dotted key", file: "msg.lisen = 1",
		want: []string{"teamtalk.toml:1: msg.lisen: ", "msg.listen"}},
	{name: "inline table", file: "msg = {rate = 1,\n burst = 3}",
		want: []string{"teamtalk.toml:2"}},
	{name: "quoted dot", file: "\"msg.listen\" = \":1\"",
		want: []string{"teamtalk.toml:1: msg.listen: ", "without quotes"}},
	{name: "setting as section", file: "[store]\nx = 1",
		want: []string{"teamtalk.toml:1: store: want one of embedded, mysql, in quotes"}},
	{name: "section as setting", file: "msg = 3",
		want: []string{"teamtalk.toml:1: msg: is a section"}},
	{name: "array of tables", file: "[[msg]]\nlisten = \":1\"",
		want: []string{"teamtalk.toml:1: msg: is a section"}},
	{name: "syntax", file: "[msg]\nlisten = \n", want: []string{"teamtalk.toml:2:"}},
	{name: "twice", file: "store = \"mysql\"\nstore = \"mysql\"",
		want: []string{"teamtalk.toml:2:", "store"}},
	{name: "all at once, in order",
		file: "[msg]\nrate = -1\nack = \"never\"\n",
		env:  []string{"TEAMTALK_WORKERS=many"},
		want: []string{
			"teamtalk.toml:2: msg.rate: must be 0 or more\n" +
				"teamtalk.toml:3: msg.ack: \"never\" is none of delivered, stored\n" +
				"environment TEAMTALK_WORKERS: workers: want a whole number, not \"many\"",
		}},
	{name: "number for duration", file: "shutdown_timeout = 30",
		want: []string{`shutdown_timeout: want a duration in quotes, such as "15s", not 30: ` +
			`numbers, each with`}},
	{name: "bad duration", file: "shutdown_timeout = \"30\"",
		want: []string{`want a duration such as "15s" or "1h30m", not "30": numbers, each with ` +
			`one of the units h, m, s, ms, us and ns`}},
	{name: "quoted number", file: "workers = \"3\"",
		want: []string{"want a number without quotes"}},
	{name: "quoted bool", file: "[admin]\npprof = \"true\"",
		want: []string{"want true or false without quotes"}},
	{name: "text for list", file: "[msg]\nroute = \"a:1\"",
		want: []string{`want a list such as ["a", "b"]`}},
	{name: "numbers in list", file: "[msg]\nroute = [1]", want: []string{"want a list of texts"}},
	{name: "fraction", file: "workers = 1.5", want: []string{"want a number"}},
	{name: "date", file: "store = 2020-01-01", want: []string{"want one of"}},
	{name: "size unit", file: "[msg]\nslow_consumer = \"1M\"",
		want: []string{`want a size such as "64KiB", not "1M": a whole number and one of the ` +
			`units B, KiB, MiB, GiB, TiB, kB, MB, GB and TB`}},
	{name: "size low", file: "[msg]\nmax_frame = 10", want: []string{"must be 1KiB or more"}},
	{name: "not a number", file: "[msg]\nrate = nan", want: []string{"want a number"}},
	{name: "infinite", file: "[msg]\nrate = inf", want: []string{"must be 1000000 or less"}},
	{name: "address", file: "[msg]\nlisten = \"8000\"",
		want: []string{`"8000" is no address such as 127.0.0.1:8000 or :8000`}},
	{name: "port", file: "[msg]\nlisten = \":80000\"",
		want: []string{`port "80000" is not a number from 0 to 65535`}},
	{name: "peer without host", file: "[msg]\nroute = [\":8200\"]",
		want: []string{"is no address such as 10.0.0.5:8000"}},
	{name: "empty listener", file: "[msg]\nlisten = \"\"",
		want: []string{`empty; to close this port write "off"`}},
	{name: "auto where it is nothing", file: "[msg]\nlisten = \"auto\"",
		want: []string{"is no address"}},
	{name: "no clients' port", file: "[msg]\nlisten = \"off\"",
		want: []string{"leave msg out of roles"}},
	{name: "empty choice", file: "store = \"\"", want: []string{`"" is none of embedded, mysql`}},
	{name: "host with port", file: "[msg]\nadvertise_ip1 = \"10.0.0.1:8000\"",
		want: []string{"the port has a setting of its own"}},
	{name: "network", file: "[login]\nip2_networks = [\"10.0.0.1\"]",
		want: []string{"no network such as 10.0.0.0/8"}},
	{name: "network of mapped addresses", file: "[proxy]\nnetworks = [\"::ffff:10.0.0.1/104\"]",
		want: []string{`"::ffff:10.0.0.1/104" is IPv4 in the form of IPv6: write 10.0.0.0/8`}},
	{name: "network around mapped addresses", file: "[tls]\nplain_networks = [\"::ffff:0:0/80\"]",
		want: []string{"is no network of IPv6, nor one of IPv4"}},
	{name: "url", file: "[login]\nmsfs_prior = \"files:8700\"",
		want: []string{"want a URL such as"}},
	{name: "role", file: "roles = [\"dbproxi\"]",
		want: []string{"teamtalk.toml:1: roles: \"dbproxi\" is no role; did you mean dbproxy?"}},
	{name: "role twice", file: "roles = [\"msg\", \"msg\"]",
		want: []string{`"msg" is listed twice`}},
	{name: "no roles", file: "roles = []", want: []string{"must not be empty"}},
	{name: "key length", file: "[keys]\ntext_key = \"short\"",
		want: []string{"must be 32 bytes long, not 5"}},
	{name: "ticket key length", file: "[msfs]\nticket_key = \"short\"",
		want: []string{"msfs.ticket_key: must be at least 32 bytes long, not 5"}},
	{name: "tickets", file: "[msfs]\ntickets = \"on\"",
		want: []string{`msfs.tickets: "on" is none of off, optional, required`}},
	{name: "cluster database", file: "[redis]\ncluster = true\ndb = 1",
		want: []string{"redis.db: a Redis Cluster has no database but 0"}},
	{name: "sentinels with addresses",
		file: "[redis]\naddrs = [\"a:1\"]\nsentinels = [\"s:1\"]\ncluster = true",
		want: []string{"teamtalk.toml:2: redis.addrs: not used, because redis.sentinels",
			"teamtalk.toml:4: redis.cluster: a Redis Cluster has no Sentinels"}},
	{name: "sentinels without a name", file: "[redis]\nsentinels = [\"s:1\"]\nmaster_name = \"\"",
		want: []string{"redis.master_name: must not be empty"}},
	{name: "sentinel without a port", file: "[redis]\nsentinels = [\"s1\"]",
		want: []string{"redis.sentinels"}},
	{name: "redis url", file: "[redis]\nunread = \"host:1\"",
		want: []string{"want a URL such as redis://host:6379/1"}},
	{name: "link timeout", file: "[link]\ntimeout = \"2s\"",
		want: []string{"must be longer than link.heartbeat (5s)"}},
	{name: "files that expire early", file: "[msfs]\nexpire_after = \"1h\"",
		want: []string{"teamtalk.toml:2: msfs.expire_after: must be 0s (never) or at least 24h, " +
			"not 1h"}},
	{name: "messages that expire early", file: "[dbproxy]\nmessage_expiry = \"24h\"",
		want: []string{"teamtalk.toml:2: dbproxy.message_expiry: must be 0s (never) or at least " +
			"48h, not 24h"}},
	{name: "no hours", file: "[dbproxy]\nmessage_expiry_hours = \"1-6\"",
		want: []string{`teamtalk.toml:2: dbproxy.message_expiry_hours: want two times of the day ` +
			`such as "01:00-06:00", not "1-6"`}},
	{name: "unused files that expire early", file: "[msfs]\nexpire_unused_after = \"1h\"",
		want: []string{"msfs.expire_unused_after: must be 0s (as other files) or at least 24h"}},
	{name: "unused files that expire late",
		file: "[msfs]\nexpire_unused_after = \"48h\"\nexpire_after = \"24h\"",
		want: []string{"msfs.expire_unused_after: must not be above msfs.expire_after (24h)"}},
	{name: "burst below a file", file: "[msfs]\nupload_burst = \"1MiB\"",
		want: []string{"msfs.upload_burst: must not be below msfs.max_size (10MiB)"}},
	{name: "quota of a bucket",
		file: "[msfs]\nquota = \"1GiB\"\ns3_endpoint = \"s3:1\"\ns3_bucket = \"b\"",
		want: []string{"teamtalk.toml:2: msfs.quota: not for the bucket"}},
	{name: "masked", file: "[mysql]\nmaster = \"u:********@tcp(h:1)/d\"",
		want: []string{"put the password there"}},
	{name: "UTF-16", file: "\xff\xfes\x00t\x00", want: []string{"teamtalk.toml:1: ",
		"save it in UTF-8"}},
	{name: "line behind a mark and CRLF", file: "\ufeffworkers = 0\r\nstore = \"x\"\r\n",
		want: []string{"teamtalk.toml:2: store: "}},
	{name: "empty list that must not be", env: []string{"TEAMTALK_ROLES=[]"},
		want: []string{"environment TEAMTALK_ROLES: roles: must not be empty"}},
	{name: "env", env: []string{"TEAMTALK_MSG_ACK=x"},
		want: []string{"environment TEAMTALK_MSG_ACK: msg.ack: \"x\" is none of"}},
	{name: "flag", args: []string{"--msg.ack=x"},
		want: []string{"--msg.ack", "\"x\" is none of delivered, stored"}},
}

// TestMistakes checks that the error of a wrong setting names its place, the setting and
// the values that it takes.
func TestMistakes(t *testing.T) {
	for _, x := range mistakes {
		t.Run(x.name, func(t *testing.T) {
			_, err := load(t, x.file, x.env, x.args...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range x.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q lacks %q", err, w)
				}
			}
		})
	}
}

// TestFlagNamedOnce: the error of a setting that a flag gives names the setting in the spelling of
// the flag and in that of the file, once if they are the same.
func TestFlagNamedOnce(t *testing.T) {
	for _, x := range []struct{ arg, want string }{
		{"--link.timeout=1s", "flag --link.timeout: must be longer than"},
		{"--msfs.expire-after=1h", "flag --msfs.expire-after: msfs.expire_after: must be 0s"},
	} {
		_, err := load(t, "", nil, x.arg)
		if err == nil || !strings.HasPrefix(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", x.arg, err, x.want)
		}
	}
}
