// Package config is what an operator can set. One definition, the Config struct with its tags, gives the TOML file, the environment, the flags,
// the defaults, the checks and the documentation; nothing is written twice.
//
// A setting has one name in three spellings: msg.listen in the file (section msg, key listen), TEAMTALK_MSG_LISTEN in the environment, --msg.listen
// on the command line. A later source wins: default, file, environment, flag. A mistake is answered with the setting's name, where its
// value came from and what would be right; unknown names are mistakes too.
package config

import "time"

// The tags of a setting:
//
//	toml     its key
//	default  its default, spelled as in the environment
//	doc      what it means, for operators
//	min max  bounds, both included
//	oneof    the words allowed, separated by |
//	form     what a text has to look like, see forms in validate.go

// Config is every setting, checked. Load makes one; Default makes one of defaults. It is not changed after that.
type Config struct {
	DataDir         string        `toml:"data_dir" default:"teamtalk-data" doc:"Directory of the embedded store. Made when missing."`
	Store           string        `toml:"store" default:"embedded" oneof:"embedded|mysql" doc:"Where users and messages are kept. \"embedded\" needs nothing else and serves one dbproxy process; \"mysql\" needs MySQL and Redis (see [mysql] and [redis])."`
	Roles           []string      `toml:"roles" default:"login,msg,route,dbproxy,msfs,file,push,http" form:"roles" doc:"Servers to run in this process: login, msg, route, dbproxy, msfs, file, push, http. All of them together find each other by themselves; otherwise each needs the addresses of its peers."`
	Workers         int           `toml:"workers" default:"0" min:"0" max:"4096" doc:"How many requests work on the store at the same time. Database connections and Redis connections follow from it. 0: derived from the cores."`
	Loops           int           `toml:"loops" default:"0" min:"0" max:"1024" doc:"Event loops that carry the connections. 0: one per core."`
	ShutdownTimeout time.Duration `toml:"shutdown_timeout" default:"30s" min:"0s" max:"1h" doc:"How long a stopping process may take to finish what it has accepted."`

	Log     Log     `toml:"log" doc:"Logs go to standard error."`
	Admin   Admin   `toml:"admin" doc:"HTTP for operators: /metrics (Prometheus), /healthz, /readyz."`
	Login   Login   `toml:"login" doc:"login: gives each client the least loaded message server."`
	Msg     Msg     `toml:"msg" doc:"msg: holds the clients' connections."`
	Route   Route   `toml:"route" doc:"route: knows who is online where, and forwards between message servers."`
	DBProxy DBProxy `toml:"dbproxy" doc:"dbproxy: the only server that touches the store."`
	MSFS    MSFS    `toml:"msfs" doc:"msfs: keeps small files – pictures, avatars, sounds – and serves them over HTTP."`
	File    File    `toml:"file" doc:"file: passes files from one client to another, or keeps them until the receiver is there."`
	Push    Push    `toml:"push" doc:"push: wakes phones through Apple's and Google's services. In one process with msg or http it works as soon as one of them is set up; else msg.push and http.push say where it is."`
	HTTP    HTTP    `toml:"http" doc:"http: calls for other systems of the company, described at /openapi.json. With all roles in one process it runs when apps_file is set, and with serve --demo, for people on the same machine to register."`
	Link    Link    `toml:"link" doc:"Connections between servers."`
	MySQL   MySQL   `toml:"mysql" doc:"Used with store = \"mysql\"."`
	Redis   Redis   `toml:"redis" doc:"Used with store = \"mysql\"."`
	Keys    Keys    `toml:"keys" doc:"Keys shared with the clients."`

	origin   map[string]Origin // of every setting, by key
	warnings []string
}

// Log is the section log.
type Log struct {
	Level  string `toml:"level" default:"info" oneof:"debug|info|warn|error" doc:"The least important messages to log."`
	Format string `toml:"format" default:"text" oneof:"text|json" doc:"text (key=value) for people, json for collectors."`
}

// Admin is the section admin.
type Admin struct {
	Listen string `toml:"listen" default:"127.0.0.1:9090" form:"listen" doc:"Address of the admin port, or \"off\". It asks for no password: keep it where only operators reach it."`
	PProf  bool   `toml:"pprof" default:"false" doc:"Serve Go's profiler under /debug/pprof/ on the admin port, waits for locks included."`
}

// Login is the section login.
type Login struct {
	ClientListen       string   `toml:"client_listen" default:":8008" form:"listen" doc:"TCP address for clients that ask for a message server with a frame, or \"off\"."`
	HTTPListen         string   `toml:"http_listen" default:":8080" form:"listen" doc:"HTTP address for clients that ask with GET /msg_server, or \"off\"."`
	HTTPMaxConnections int      `toml:"http_max_connections" default:"10000" min:"1" max:"10000000" doc:"Most HTTP connections at a time; a quarter of the limit of open files lowers it. Beyond it those that wait longest without a request make room."`
	ServerListen       string   `toml:"server_listen" default:"auto" form:"internal" doc:"Address for message servers. \"auto\": :8100, opened when this process does not run all roles. Keep it off the internet: servers are trusted."`
	IP2Networks        []string `toml:"ip2_networks" default:"" form:"cidr" doc:"Networks (CIDR) whose clients are given a message server's second address first; everybody else is given the first address first."`
	MSFSPrior          string   `toml:"msfs_prior" default:"" form:"url" doc:"URL of the small file server, told to clients, with a slash at its end."`
	MSFSBackup         string   `toml:"msfs_backup" default:"" form:"url" doc:"The same by another way; empty: as msfs_prior."`
	Discovery          string   `toml:"discovery" default:"" form:"url" doc:"URL of the discovery page, told to clients."`
	Register           string   `toml:"register" default:"" form:"url" doc:"URL of the HTTP API (role http) where people may register themselves, told to clients. Empty: that of this process, when http runs in it and registration is on there."`
}

// Msg is the section msg.
type Msg struct {
	Listen         string `toml:"listen" default:":8000" form:"listen" doc:"TCP address for clients."`
	AdvertiseIP1   string `toml:"advertise_ip1" default:"" form:"host" doc:"Address that clients are told to connect to. Empty: the host in listen, else this machine's own address."`
	AdvertiseIP2   string `toml:"advertise_ip2" default:"" form:"host" doc:"A second address of the same server, for example over another carrier. Empty: as advertise_ip1."`
	AdvertisePort  int    `toml:"advertise_port" default:"0" min:"0" max:"65535" doc:"The port clients are told. 0: the one listened on."`
	MaxConnections int    `toml:"max_connections" default:"100000" min:"0" max:"10000000" doc:"Most client connections at a time; the limit of open files lowers it. 0: only the limit of open files counts."`

	DevicePolicy   string        `toml:"device_policy" default:"device_class" oneof:"device_class|one_client|keep_first|unlimited" doc:"What a second login of a user does. device_class: it replaces one of the same class, so one pc and one phone may be online together; one_client: it replaces every other; keep_first: it is refused; unlimited: nothing."`
	Ack            string        `toml:"ack" default:"delivered" oneof:"delivered|stored" doc:"When a sender gets its ack. stored: once the message is stored; delivered: once a device of the receiver has it, at the latest after ack_wait (when the receiver is offline, or has no device that acknowledged a message before: once it is stored). Never before it is stored."`
	AckWait        time.Duration `toml:"ack_wait" default:"2s" min:"10ms" max:"1m" doc:"Longest wait for the receiver with ack = \"delivered\"."`
	RedeliverAfter time.Duration `toml:"redeliver_after" default:"15s" min:"0s" max:"10m" doc:"A message that a connected client did not acknowledge in this time is sent to it again, once, if it has acknowledged one of that kind before: clients that never do would show it twice. 0s: never."`
	ResendWindow   time.Duration `toml:"resend_window" default:"60s" min:"0s" max:"1h" doc:"A message repeated on the same connection with the same seq and content within this time is the same message, not a second one. 0s: every one is a new message."`
	Rate           float64       `toml:"rate" default:"20" min:"0" max:"1000000" doc:"Messages a second that one connection may send; more are dropped without ack, and counted. 0: no limit."`
	RateBurst      int           `toml:"rate_burst" default:"20" min:"1" max:"1000000" doc:"Messages that one connection may send at once before rate counts."`
	Presence       string        `toml:"presence" default:"all" oneof:"all|contacts|none" doc:"Who is told that a user's pc went on or off line: all pc clients; those who have a conversation with that user; or none."`
	PresenceWindow time.Duration `toml:"presence_window" default:"100ms" min:"0s" max:"10s" doc:"Comings and goings of this long are told together, in one write to each client; who comes and goes within it is told once. 0s: each at once."`

	MaxFrame      Size          `toml:"max_frame" default:"1088KiB" min:"1KiB" max:"64MiB" doc:"Longest frame accepted from a client, header included. A longer one closes the connection."`
	SlowConsumer  Size          `toml:"slow_consumer" default:"1MiB" min:"64KiB" max:"1GiB" doc:"How much may wait for a client that does not read; beyond it the connection is closed. The client fetches what it missed when it is back. Frames of 64KiB and more, such as the first list of all users, do not count: of those 16 times as much may wait, as long as the client goes on reading."`
	LoginDeadline time.Duration `toml:"login_deadline" default:"15s" min:"100ms" max:"1h" doc:"A connection that has not logged in by then is closed."`
	PCTimeout     time.Duration `toml:"pc_timeout" default:"120s" min:"1s" max:"24h" doc:"A pc client silent for this long is closed. Clients send a heartbeat every 30s."`
	MobileTimeout time.Duration `toml:"mobile_timeout" default:"300s" min:"1s" max:"24h" doc:"The same for a phone."`

	DBProxy            []string `toml:"dbproxy" default:"" form:"addrs" doc:"Addresses of the dbproxy servers. Not needed when dbproxy runs in the same process."`
	Route              []string `toml:"route" default:"" form:"addrs" doc:"Addresses of the route servers. Not needed when route runs in the same process."`
	Login              []string `toml:"login" default:"" form:"addrs" doc:"Addresses of the login servers. Not needed when login runs in the same process."`
	Push               []string `toml:"push" default:"" form:"addrs" doc:"Addresses of the push servers. Empty: nobody is pushed to, unless push runs in the same process. Messages of the HTTP API have http.push."`
	File               []string `toml:"file" default:"" form:"addrs" doc:"Addresses of the file servers. Not needed when file runs in the same process. Without any, files other than pictures cannot be sent."`
	RequireCipher      bool     `toml:"require_cipher" default:"false" doc:"Drop texts that are not encrypted as the clients do: base64 of whole blocks of 16 bytes. They get no ack, and are counted as no_cipher in teamtalk_msg_dropped_total. Set it where the original iOS client is in use: it reads freed memory when it receives another text. Leave it off for web clients and bots that send plain text."`
	PushText           int      `toml:"push_text" default:"40" min:"0" max:"1000" doc:"How many characters of a message a push shows behind the sender's nick, also of one sent over the HTTP API. 0: none, only who sent one (Nick给您发送了一条消息). Pushes pass through Apple's and Google's services."`
	DBProxyConnections int      `toml:"dbproxy_connections" default:"2" min:"1" max:"64" doc:"Connections to each dbproxy server. From two on, half are kept for logins and first screens, so that a flood of messages does not hold them up."`
}

// Route is the section route.
type Route struct {
	Listen string `toml:"listen" default:"auto" form:"internal" doc:"Address for message servers. \"auto\": :8200, opened when this process does not run all roles. Keep it off the internet: servers are trusted."`
	Flood  bool   `toml:"flood" default:"false" doc:"Forward everything to all message servers, not only to those that hold a user concerned. For message servers that do not report their users."`
}

// DBProxy is the section dbproxy.
type DBProxy struct {
	Listen            string        `toml:"listen" default:"auto" form:"internal" doc:"Address for the other servers. \"auto\": :10600, opened when this process does not run all roles. Keep it off the internet: servers are trusted."`
	MessageShards     int           `toml:"message_shards" default:"0" min:"0" max:"256" doc:"How many batches of messages may be on their way to the store at the same time. 0: as many as cores, 2 to 4; 1 for the embedded store."`
	Queue             int           `toml:"queue" default:"0" min:"0" max:"16777216" doc:"Requests, messages not counted, that may wait; beyond it new ones are refused as busy. 0: 2048 per worker."`
	SessionSync       time.Duration `toml:"session_sync" default:"5s" min:"100ms" max:"1h" doc:"How often the conversation lists of groups' members are brought up to date; one dbproxy does it at a time."`
	MSFS              string        `toml:"msfs" default:"" form:"url" doc:"URL of the small file server that keeps the sound of audio messages. Empty: that of this process, when msfs runs in it; else a folder in data_dir, for one dbproxy process."`
	HistoryLimit      int           `toml:"history_limit" default:"100" min:"1" max:"10000" doc:"Most messages that one history request returns."`
	LoginLockAttempts int           `toml:"login_lock_attempts" default:"10" min:"0" max:"1000" doc:"Different wrong passwords within login_lock_window that lock a name. 0: never lock."`
	FileExpiry        time.Duration `toml:"file_expiry" default:"720h" min:"0s" max:"87600h" doc:"How long a file that nobody fetches stays on its receiver's list; file.keep_waiting says how long the file server keeps it, and lists it again if it compares (file.compare). 0s: for ever."`
	LoginLockWindow   time.Duration `toml:"login_lock_window" default:"30m" min:"1s" max:"24h" doc:"How long a wrong password counts, and so how long a locked name stays locked."`
}

// MSFS is the section msfs.
type MSFS struct {
	Listen         string `toml:"listen" default:":8700" form:"listen" doc:"HTTP address for clients."`
	URL            string `toml:"url" default:"" form:"url" doc:"How clients, and other dbproxy servers, reach it. Empty: this machine's own address; login tells it to clients unless login.msfs_prior says otherwise."`
	Dir            string `toml:"dir" default:"" doc:"Folder for the files. Empty: msfs in data_dir. Not used with S3."`
	MaxSize        Size   `toml:"max_size" default:"10MiB" min:"1KiB" max:"1GiB" doc:"Largest file taken from clients."`
	MaxUploads     int    `toml:"max_uploads" default:"64" min:"1" max:"100000" doc:"Uploads at work at once; more are refused as busy."`
	MaxConnections int    `toml:"max_connections" default:"10000" min:"1" max:"10000000" doc:"Most connections at a time; a quarter of the limit of open files lowers it. Beyond it those that wait longest without a request make room."`
	MinFree        Size   `toml:"min_free" default:"1GiB" min:"0B" max:"1024GiB" doc:"With less room on the folder's disk nothing more is taken, sounds of audio messages kept here included."`
	ScaledCache    Size   `toml:"scaled_cache" default:"64MiB" min:"0B" max:"64GiB" doc:"Memory for scaled pictures. Clients show avatars as <path>_100x100.jpg: the picture is scaled once and kept here. 0B: it is served as it is."`
	ScalePixels    int    `toml:"scale_pixels" default:"12500000" min:"1" max:"1000000000" doc:"Largest picture that is scaled, in pixels; a larger one is served as it is. Scaling one takes about 2 bytes of memory for each of its pixels, 24 for one made to waste memory."`
	S3Endpoint     string `toml:"s3_endpoint" default:"" doc:"Host, or host:port, of an S3 server that keeps the files instead of the folder."`
	S3Bucket       string `toml:"s3_bucket" default:"" doc:"Bucket, which is there already."`
	S3Prefix       string `toml:"s3_prefix" default:"" doc:"Before every name in the bucket."`
	S3Region       string `toml:"s3_region" default:"" doc:"Region; empty: asked of the server."`
	S3AccessKey    string `toml:"s3_access_key" default:"" doc:"Access key."`
	S3SecretKey    Secret `toml:"s3_secret_key" default:"" doc:"Secret key."`
	S3Plain        bool   `toml:"s3_plain" default:"false" doc:"HTTP instead of HTTPS to the S3 server."`
}

// File is the section file.
type File struct {
	Listen         string        `toml:"listen" default:":8600" form:"listen" doc:"TCP address for clients."`
	AdvertiseIP    string        `toml:"advertise_ip" default:"" form:"host" doc:"Address that clients are told to connect to. Empty: the host in listen, else this machine's own address."`
	AdvertisePort  int           `toml:"advertise_port" default:"0" min:"0" max:"65535" doc:"The port clients are told. 0: the one listened on."`
	ServerListen   string        `toml:"server_listen" default:"auto" form:"internal" doc:"Address for message servers. \"auto\": :8601, opened when this process does not run all roles. Keep it off the internet: servers are trusted."`
	Route          []string      `toml:"route" default:"" form:"addrs" doc:"Addresses of the route servers, asked who is online. Not needed when route runs in the same process."`
	CheckOnline    string        `toml:"check_online" default:"auto" oneof:"auto|on|off" doc:"Whether only users who are online just then may send and fetch files. auto: where route servers are known. A process that checks is ready once it is linked to one. A C++ route server does not count phones: behind one, users it calls offline are let in."`
	DBProxy        []string      `toml:"dbproxy" default:"" form:"addrs" doc:"Addresses of the dbproxy servers, with whose list of waiting files those in the folder are compared. Not needed when dbproxy runs in the same process. Without any the two are not compared; C++ ones do not answer."`
	Compare        time.Duration `toml:"compare" default:"10m" min:"0s" max:"24h" doc:"How often they are compared: a waiting file that is not listed, since its sender's client ended too early, gets listed; a row whose file this server no longer has is removed, and a file that its receiver took off the list. 0s: never."`
	CompareGrace   time.Duration `toml:"compare_grace" default:"10m" min:"0s" max:"24h" doc:"What is younger than this is left alone when they are compared."`
	Dir            string        `toml:"dir" default:"" doc:"Folder for files that wait for their receivers. Empty: files in data_dir."`
	Workers        int           `toml:"workers" default:"8" min:"1" max:"1024" doc:"How many reads and writes of files are done at the same time."`
	MaxConnections int           `toml:"max_connections" default:"10000" min:"1" max:"10000000" doc:"Most client connections at a time; the limit of open files lowers it."`
	MaxTasks       int           `toml:"max_tasks" default:"50000" min:"1" max:"10000000" doc:"Most transfers that are under way or wait; more are refused."`
	MaxUserTasks   int           `toml:"max_user_tasks" default:"200" min:"1" max:"10000000" doc:"The same for what one user sends."`
	Quota          Size          `toml:"quota" default:"8GiB" min:"1MiB" max:"1048576GiB" doc:"Most bytes that one user's files may take while they wait for receivers, unfinished ones by their full size."`
	MinFree        Size          `toml:"min_free" default:"1GiB" min:"0B" max:"1024GiB" doc:"With less room on the folder's disk no further file is taken."`
	KeepUnfinished time.Duration `toml:"keep_unfinished" default:"168h" min:"1s" max:"87600h" doc:"How long an upload that broke off may be taken up again."`
	KeepWaiting    time.Duration `toml:"keep_waiting" default:"720h" min:"1s" max:"87600h" doc:"How long a file waits for its receiver."`
	KeepFetched    time.Duration `toml:"keep_fetched" default:"24h" min:"0s" max:"87600h" doc:"How long a file stays after it was sent to its receiver, unless the receiver takes it off its list, as clients do once they have it all."`
	UploadWindow   int           `toml:"upload_window" default:"8" min:"1" max:"64" doc:"Segments of 32KiB asked of an uploading client at once, after the first 512KiB. 1: always one by one."`
	LoginDeadline  time.Duration `toml:"login_deadline" default:"15s" min:"100ms" max:"1h" doc:"A connection that has not logged in to a transfer by then is closed."`
	IdleTimeout    time.Duration `toml:"idle_timeout" default:"120s" min:"1s" max:"24h" doc:"A client silent for this long, or that owes a segment for this long, is closed. Clients send a heartbeat every 30s."`
}

// HTTP is the section http.
type HTTP struct {
	Listen         string   `toml:"listen" default:":8400" form:"listen" doc:"HTTP address for other systems. Keys travel in clear: put TLS in front, or keep it in a network that is trusted."`
	URL            string   `toml:"url" default:"" form:"url" doc:"How people reach it to register, told to them by login. Empty: this machine's own address."`
	MaxConnections int      `toml:"max_connections" default:"10000" min:"1" max:"10000000" doc:"Most connections at a time; a quarter of the limit of open files lowers it. Beyond it those that wait longest without a request make room."`
	AppsFile       string   `toml:"apps_file" default:"" doc:"File of the systems that may call, with their keys, and of who may register; there is an example among the others, http/apps.toml."`
	DBProxy        []string `toml:"dbproxy" default:"" form:"addrs" doc:"Addresses of the dbproxy servers. Not needed when dbproxy runs in the same process."`
	Route          []string `toml:"route" default:"" form:"addrs" doc:"Addresses of the route servers. Not needed when route runs in the same process."`
	Push           []string `toml:"push" default:"" form:"addrs" doc:"Addresses of the push servers, for what is sent through here. Empty: nobody is pushed to about it, unless push runs in the same process. msg.push_text and keys.text_key say what pushes show."`
}

// Push is the section push.
type Push struct {
	Listen         string `toml:"listen" default:"auto" form:"internal" doc:"Address for message servers. \"auto\": :8500, opened when this process does not run all roles. Keep it off the internet: servers are trusted."`
	APNsTopic      string `toml:"apns_topic" default:"" doc:"Apple: the app's bundle id. Empty: pushes for iOS are only logged."`
	APNsKeyFile    string `toml:"apns_key_file" default:"" doc:"Apple: the signing key, a .p8 file; with apns_key_id and apns_team_id."`
	APNsKeyID      string `toml:"apns_key_id" default:"" doc:"Apple: the key's id."`
	APNsTeamID     string `toml:"apns_team_id" default:"" doc:"Apple: the team's id."`
	APNsCertFile   string `toml:"apns_cert_file" default:"" doc:"Apple: a certificate, .p12 or .pem, instead of a key."`
	APNsPassword   Secret `toml:"apns_cert_password" default:"" doc:"Apple: the certificate's password."`
	APNsSandbox    bool   `toml:"apns_sandbox" default:"false" doc:"Apple: the service for apps under development."`
	APNsURL        string `toml:"apns_url" default:"" form:"url" doc:"Another address than Apple's, for tests."`
	FCMCredentials string `toml:"fcm_credentials" default:"" doc:"Google: the service account's JSON file. Empty: pushes for Android are only logged."`
	FCMURL         string `toml:"fcm_url" default:"" form:"url" doc:"Another address than Google's, for tests."`
	Queue          int    `toml:"queue" default:"20000" min:"1" max:"10000000" doc:"Pushes that may wait for a service; more fail at once."`
	Workers        int    `toml:"workers" default:"32" min:"1" max:"10000" doc:"Pushes on their way to a service at once."`
	Attempts       int    `toml:"attempts" default:"5" min:"1" max:"100" doc:"How often a push is tried."`
}

// Link is the section link.
type Link struct {
	MaxFrame    Size          `toml:"max_frame" default:"64MiB" min:"1MiB" max:"1GiB" doc:"Longest frame accepted from another server. A longer one closes the connection."`
	Heartbeat   time.Duration `toml:"heartbeat" default:"5s" min:"100ms" max:"5m" doc:"A heartbeat is sent when nothing was sent for this long."`
	Timeout     time.Duration `toml:"timeout" default:"30s" min:"1s" max:"1h" doc:"A server silent for this long counts as gone."`
	CallTimeout time.Duration `toml:"call_timeout" default:"10s" min:"100ms" max:"10m" doc:"How long another server may take to answer one request."`
	DialTimeout time.Duration `toml:"dial_timeout" default:"5s" min:"100ms" max:"1m" doc:"How long connecting may take."`
	BackoffMax  time.Duration `toml:"backoff_max" default:"64s" min:"1s" max:"1h" doc:"Longest pause between two attempts to connect. The pause is at most 400ms for the first 30s after a connection was lost, and grows after that."`
}

// MySQL is the section mysql.
type MySQL struct {
	Master     DSN           `toml:"master" default:"" form:"dsn" doc:"Database that is written to: user:password@tcp(host:3306)/teamtalk. As a flag it shows in the list of processes; the environment and a file do not."`
	Slave      DSN           `toml:"slave" default:"" form:"dsn" doc:"A replica for reads that may be a moment old. Empty: the master."`
	ReplicaLag time.Duration `toml:"replica_lag" default:"10s" min:"1ms" max:"1h" doc:"How far the slave may be behind: for this long after a write, reads of the same user or conversation go to the master."`
}

// Redis is the section redis. Unread counts, group settings, push tokens, sync marks and group members are five logical instances
// (see Target), which are usually one.
type Redis struct {
	Addrs       []string `toml:"addrs" default:"127.0.0.1:6379" form:"addrs" doc:"Address of Redis; with a cluster, some of its nodes."`
	Username    string   `toml:"username" default:"" doc:"User of Redis' access lists. Empty: the default user."`
	Password    Secret   `toml:"password" default:"" doc:"Password of Redis."`
	DB          int      `toml:"db" default:"0" min:"0" max:"65535" doc:"Number of the logical database. A cluster has only 0."`
	Cluster     bool     `toml:"cluster" default:"false" doc:"It is a Redis Cluster. Several addresses mean that too."`
	Unread      RedisURL `toml:"unread" default:"" form:"redis" doc:"Where unread counts and message ids are, when they are not where the settings above say: redis://user:password@host:6379/1, hosts separated by commas, ?cluster=true. Without a host (redis:///1) only the database is another."`
	GroupSet    RedisURL `toml:"group_set" default:"" form:"redis" doc:"The same for groups' push settings."`
	Token       RedisURL `toml:"token" default:"" form:"redis" doc:"The same for push tokens."`
	Sync        RedisURL `toml:"sync" default:"" form:"redis" doc:"The same for sync marks."`
	GroupMember RedisURL `toml:"group_member" default:"" form:"redis" doc:"The same for group members."`
}

// Keys is the section keys.
type Keys struct {
	Text Secret `toml:"text_key" default:"12345678901234567890123456789012" form:"key32" doc:"Key of the clients' text encryption, 32 bytes. Only push notifications show texts, and [语音] in lists of conversations is encrypted with it."`
}
