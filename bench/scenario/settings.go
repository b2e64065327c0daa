package scenario

import (
	"fmt"
	"reflect"
	"slices"
)

// Kinds of scenario that share settings.
var (
	timed   = []string{KindConnect, KindSingle, KindGroup, KindMixed, KindFile}
	texting = []string{KindSingle, KindGroup, KindMixed}
)

// definitions are the settings of a Scenario, in the order of its fields, which have the key
// as their toml tag. They stand here because a struct tag cannot span several lines.
var definitions = []Field{
	{Key: "kind", Doc: "what to do: connect, idle, single, group, mixed, file or soak"},
	{Key: "of", Default: "mixed", oneof: []string{"connect", "single", "group", "mixed", "file"},
		Kinds: []string{KindSoak}, Doc: "kind of scenario that a soak runs for hours"},
	{Key: "name", Doc: "name of the run in reports"},

	{Key: "addr", Default: "127.0.0.1:8000",
		Doc: "message servers, with commas between; connections are spread over them in turn"},
	{Key: "format", Default: "u%05d", Doc: "login name of user number 1, 2, …"},
	{Key: "password", Default: "pw", Doc: "password of all users"},
	{Key: "first", Default: "1", min: "1", max: "1000000000", Doc: "number of the first user"},
	{Key: "client", Default: "android", oneof: []string{"android", "ios", "windows", "mac"},
		Doc: "client type of the logins; windows and mac receive the status changes of other " +
			"users"},
	{Key: "parallel", Default: "64", min: "1", max: "100000", Doc: "logins in flight at once"},
	{Key: "timeout", Default: "30s", min: "10ms", max: "10m",
		Doc: "longest wait for a connection and for an answer"},
	{Key: "loops", Default: "0", min: "0", max: "64",
		Doc: "event loops of each generator process (0: half as many as cores)"},
	{Key: "seed", Default: "1", Doc: "seed of all random choices"},
	{Key: "acks", Default: "true",
		Doc: "receivers ack each message, as clients do; without, the servers must not " +
			"redeliver (--msg.redeliver-after 0s)"},
	{Key: "heartbeat", Default: "30s", min: "100ms", max: "1h",
		Doc: "interval of the heartbeats of each client"},
	{Key: "tls", Default: "false", Doc: "connect with TLS, also to the file server; each " +
		"connection makes a whole handshake"},
	{Key: "tls_ca", Doc: "with tls: trust the certificates in this PEM file, beside those of the " +
		"system; each generator needs the file"},
	{Key: "tls_name", Doc: "with tls: the name that the server's certificate must hold (default: " +
		"the IP address of each server)"},
	{Key: "websocket", Default: "false", Kinds: []string{KindConnect, KindIdle, KindSingle,
		KindGroup}, Doc: "connect as browsers do: addr is that of the chat page (web.listen), or " +
		"msg.websocket_listen"},

	{Key: "warmup", Default: "2s", min: "0s", max: "1h", Kinds: timed, Doc: "time before counting"},
	{Key: "duration", Default: "10s", min: "10ms", max: "1000h", Kinds: timed,
		Doc: "time of counting"},
	{Key: "settle", Default: "5s", min: "0s", max: "1h",
		Doc: "idle: pause between the last login and reading memory; others: longest wait " +
			"without progress for messages in flight at the end"},

	{Key: "rate", Default: "0", min: "0", max: "10000000", Kinds: timed,
		Doc: "messages, logins, operations or files a second, all together; they start on a " +
			"schedule, and latency counts from the scheduled time (0: as fast as the servers " +
			"answer)"},
	{Key: "arrivals", Default: "constant", oneof: []string{"constant", "poisson"}, Kinds: timed,
		Doc: "with a rate: evenly spaced, or at random as independent people would"},
	{Key: "window", Default: "16", min: "1", max: "16384", Kinds: texting,
		Doc: "without a rate: messages of a sender that may be in flight"},
	{Key: "size", Default: "64", min: "32", max: "1000000", Kinds: texting,
		Doc: "bytes of each text, at least 32"},

	{Key: "pairs", Default: "200", min: "1", max: "4000000", Kinds: []string{KindSingle, KindFile},
		Doc: "pairs of users; the first of each sends texts or files to the second"},
	{Key: "groups", Default: "1", min: "1", max: "100000", Kinds: []string{KindGroup, KindMixed},
		Doc: "groups, created at the start"},
	{Key: "members", Default: "100", min: "2", max: "100000", Kinds: []string{KindGroup, KindMixed},
		Doc: "members of each group"},
	{Key: "senders", Default: "1", min: "1", max: "60000", Kinds: []string{KindGroup},
		Doc: "members of each group that write"},
	{Key: "group_ids", Kinds: []string{KindGroup},
		Doc: "ids of existing groups to use; their members are the users in order"},

	{Key: "connections", Default: "1000", min: "1", max: "10000000",
		Kinds: []string{KindConnect, KindIdle}, Doc: "users that log in, one connection each"},
	{Key: "online", Default: "0", min: "0", max: "10000000", Kinds: []string{KindConnect},
		Doc: "further users that log in before the start and stay"},
	{Key: "after", Default: "logout", oneof: []string{"logout", "close", "stay"},
		Kinds: []string{KindConnect},
		Doc: "after a login: log out and start the next user, close the connection and start " +
			"the next user, or stay until all have logged in"},
	{Key: "hold", Default: "0s", min: "0s", max: "1000h", Kinds: []string{KindIdle},
		Doc: "how much longer to stay, at least two seconds, in which each client sends a last " +
			"heartbeat"},

	{Key: "file_size", Default: "64KiB", min: "1", max: "4294967295",
		Kinds: []string{KindMixed, KindFile}, Doc: "bytes of each file"},
	{Key: "mode", Default: "offline", oneof: []string{"offline", "online", "both"},
		Kinds: []string{KindFile},
		Doc: "the server keeps each file until it is fetched (offline), passes it on directly " +
			"(online), or both in turn"},

	{Key: "population", Default: "200", min: "8", max: "1000000", Kinds: []string{KindMixed},
		Doc: "users that are at work all the time, half at a pc, half with a phone; without a " +
			"rate they do 0.2 actions a second each"},
	{Key: "roaming", Default: "50", min: "0", max: "1000000", Kinds: []string{KindMixed},
		Doc: "further users that log in, sync, and log out again"},
	{Key: "share_texts", Default: "50", min: "0", max: "1000000", Kinds: []string{KindMixed},
		Doc: "share of the actions: texts to another user"},
	{Key: "share_group_texts", Default: "10", min: "0", max: "1000000", Kinds: []string{KindMixed},
		Doc: "share of the actions: texts to a group"},
	{Key: "share_reads", Default: "20", min: "0", max: "1000000", Kinds: []string{KindMixed},
		Doc: "share of the actions: marking a conversation as read"},
	{Key: "share_history", Default: "6", min: "0", max: "1000000", Kinds: []string{KindMixed},
		Doc: "share of the actions: reading a conversation's history"},
	{Key: "share_presence", Default: "5", min: "0", max: "1000000", Kinds: []string{KindMixed},
		Doc: "share of the actions: asking for the status of 20 users"},
	{Key: "share_typing", Default: "5", min: "0", max: "1000000", Kinds: []string{KindMixed},
		Doc: "share of the actions: telling another user that one is typing"},
	{Key: "share_logins", Default: "3", min: "0", max: "1000000", Kinds: []string{KindMixed},
		Doc: "share of the actions: a roaming user's login, first sync and logout"},
	{Key: "share_files", Default: "1", min: "0", max: "1000000", Kinds: []string{KindMixed},
		Doc: "share of the actions: sending a file over the file server"},
}

// Fields returns the settings of a kind of scenario, in the order of the documentation.
func Fields(kind string) []Field {
	var fields []Field
	t := reflect.TypeFor[Scenario]()
	for i, f := range definitions {
		if key := t.Field(i).Tag.Get("toml"); key != f.Key {
			panic(fmt.Sprintf("bench: setting %d of a scenario is %s, and defined as %s", i, key,
				f.Key))
		}
		f.index = i
		if kind == KindSoak || len(f.Kinds) == 0 || slices.Contains(f.Kinds, kind) {
			fields = append(fields, f)
		}
	}
	return fields
}
