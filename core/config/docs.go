package config

// docs describe every setting and section for operators, by key. A test checks that the table is
// complete. The texts stand here because a struct tag cannot span several lines.
var docs = map[string]string{
	"data_dir": "Directory of the embedded store. Made when missing.",
	"store": "Where users and messages are kept. \"embedded\" needs nothing else and serves one " +
		"dbproxy process; \"mysql\" needs MySQL and Redis (see [mysql] and [redis]).",
	"roles": "Servers to run in this process: login, msg, route, dbproxy, msfs, file, push, http. " +
		"All of them together find each other by themselves; otherwise each needs the " +
		"addresses of its peers.",
	"workers": "How many requests work on the store at the same time. Database connections and " +
		"Redis connections follow from it. 0: derived from the cores.",
	"loops":            "Event loops that carry the connections. 0: one per core.",
	"shutdown_timeout": "How long a stopping process may take to finish what it has accepted.",

	"log":        "Logs go to standard error.",
	"log.level":  "The least important messages to log.",
	"log.format": "text (key=value) for people, json for collectors.",

	"admin": "HTTP for operators: /metrics (Prometheus), /healthz, /readyz.",
	"admin.listen": "Address of the admin port, or \"off\". It asks for no password: keep it where only " +
		"operators reach it.",
	"admin.pprof": "Serve Go's profiler under /debug/pprof/ on the admin port, waits for locks included.",

	"login":               "login: gives each client the least loaded message server.",
	"login.client_listen": "TCP address for clients that ask for a message server with a frame, or \"off\".",
	"login.http_listen":   "HTTP address for clients that ask with GET /msg_server, or \"off\".",
	"login.http_max_connections": "Most HTTP connections at a time; a quarter of the limit of open files lowers it. " +
		"Beyond it those that wait longest without a request make room.",
	"login.server_listen": "Address for message servers. \"auto\": :8100, opened when this process does not run " +
		"all roles. Keep it off the internet: servers are trusted.",
	"login.ip2_networks": "Networks (CIDR) whose clients are given a message server's second address first; " +
		"everybody else is given the first address first.",
	"login.msfs_prior":  "URL of the small file server, told to clients, with a slash at its end.",
	"login.msfs_backup": "The same by another way; empty: as msfs_prior.",
	"login.discovery":   "URL of the discovery page, told to clients.",
	"login.register": "URL of the HTTP API (role http) where people may register themselves, told to " +
		"clients. Empty: that of this process, when http runs in it and registration is on " +
		"there.",

	"msg":        "msg: holds the clients' connections.",
	"msg.listen": "TCP address for clients.",
	"msg.advertise_ip1": "Address that clients are told to connect to. Empty: the host in listen, else this " +
		"machine's own address.",
	"msg.advertise_ip2": "A second address of the same server, for example over another carrier. Empty: as " +
		"advertise_ip1.",
	"msg.advertise_port": "The port clients are told. 0: the one listened on.",
	"msg.max_connections": "Most client connections at a time; the limit of open files lowers it. 0: only the " +
		"limit of open files counts.",
	"msg.device_policy": "What a second login of a user does. device_class: it replaces one of the same " +
		"class, so one pc and one phone may be online together; one_client: it replaces " +
		"every other; keep_first: it is refused; unlimited: nothing.",
	"msg.ack": "When a sender gets its ack. stored: once the message is stored; delivered: once a " +
		"device of the receiver has it, at the latest after ack_wait (when the receiver is " +
		"offline, or has no device that acknowledged a message before: once it is stored). " +
		"Never before it is stored.",
	"msg.ack_wait": "Longest wait for the receiver with ack = \"delivered\".",
	"msg.redeliver_after": "A message that a connected client did not acknowledge in this time is sent to it " +
		"again, once, if it has acknowledged one of that kind before: clients that never do " +
		"would show it twice. 0s: never.",
	"msg.resend_window": "A message repeated on the same connection with the same seq and content within this " +
		"time is the same message, not a second one. 0s: every one is a new message.",
	"msg.rate": "Messages a second that one connection may send; more are dropped without ack, and " +
		"counted. 0: no limit.",
	"msg.rate_burst": "Messages that one connection may send at once before rate counts.",
	"msg.presence": "Who is told that a user's pc went on or off line: all pc clients; those who have a " +
		"conversation with that user; or none.",
	"msg.presence_window": "Comings and goings of this long are told together, in one write to each client; who " +
		"comes and goes within it is told once. 0s: each at once.",
	"msg.max_frame": "Longest frame accepted from a client, header included. A longer one closes the " +
		"connection.",
	"msg.slow_consumer": "How much may wait for a client that does not read; beyond it the connection is " +
		"closed. The client fetches what it missed when it is back. Frames of 64KiB and " +
		"more, such as the first list of all users, do not count: of those 16 times as much " +
		"may wait, as long as the client goes on reading.",
	"msg.login_deadline": "A connection that has not logged in by then is closed.",
	"msg.pc_timeout":     "A pc client silent for this long is closed. Clients send a heartbeat every 30s.",
	"msg.mobile_timeout": "The same for a phone.",
	"msg.dbproxy":        "Addresses of the dbproxy servers. Not needed when dbproxy runs in the same process.",
	"msg.route":          "Addresses of the route servers. Not needed when route runs in the same process.",
	"msg.login":          "Addresses of the login servers. Not needed when login runs in the same process.",
	"msg.push": "Addresses of the push servers. Empty: nobody is pushed to, unless push runs in the " +
		"same process. Messages of the HTTP API have http.push.",
	"msg.file": "Addresses of the file servers. Not needed when file runs in the same process. " +
		"Without any, files other than pictures cannot be sent.",
	"msg.require_cipher": "Drop texts that are not encrypted as the clients do: base64 of whole blocks of 16 " +
		"bytes. They get no ack, and are counted as no_cipher in teamtalk_msg_dropped_total. " +
		"Set it where the original iOS client is in use: it reads freed memory when it " +
		"receives another text. Leave it off for web clients and bots that send plain text.",
	"msg.push_text": "How many characters of a message a push shows behind the sender's nick, also of one " +
		"sent over the HTTP API. 0: none, only who sent one (Nick给您发送了一条消息). Pushes pass " +
		"through Apple's and Google's services.",
	"msg.dbproxy_connections": "Connections to each dbproxy server. From two on, half are kept for logins and first " +
		"screens, so that a flood of messages does not hold them up.",

	"route": "route: knows who is online where, and forwards between message servers.",
	"route.listen": "Address for message servers. \"auto\": :8200, opened when this process does not run " +
		"all roles. Keep it off the internet: servers are trusted.",
	"route.flood": "Forward everything to all message servers, not only to those that hold a user " +
		"concerned. For message servers that do not report their users.",

	"dbproxy": "dbproxy: the only server that touches the store.",
	"dbproxy.listen": "Address for the other servers. \"auto\": :10600, opened when this process does not " +
		"run all roles. Keep it off the internet: servers are trusted.",
	"dbproxy.message_shards": "How many batches of messages may be on their way to the store at the same time. 0: " +
		"as many as cores, 2 to 4; 1 for the embedded store.",
	"dbproxy.queue": "Requests, messages not counted, that may wait; beyond it new ones are refused as " +
		"busy. 0: 2048 per worker.",
	"dbproxy.session_sync": "How often the conversation lists of groups' members are brought up to date; one " +
		"dbproxy does it at a time.",
	"dbproxy.msfs": "URL of the small file server that keeps the sound of audio messages. Empty: that of " +
		"this process, when msfs runs in it; else a folder in data_dir, for one dbproxy " +
		"process.",
	"dbproxy.history_limit":       "Most messages that one history request returns.",
	"dbproxy.login_lock_attempts": "Different wrong passwords within login_lock_window that lock a name. 0: never lock.",
	"dbproxy.file_expiry": "How long a file that nobody fetches stays on its receiver's list; file.keep_waiting " +
		"says how long the file server keeps it, and lists it again if it compares " +
		"(file.compare). 0s: for ever.",
	"dbproxy.login_lock_window": "How long a wrong password counts, and so how long a locked name stays locked.",

	"msfs":        "msfs: keeps small files – pictures, avatars, sounds – and serves them over HTTP.",
	"msfs.listen": "HTTP address for clients.",
	"msfs.url": "How clients, and other dbproxy servers, reach it. Empty: this machine's own " +
		"address; login tells it to clients unless login.msfs_prior says otherwise.",
	"msfs.dir":         "Folder for the files. Empty: msfs in data_dir. Not used with S3.",
	"msfs.max_size":    "Largest file taken from clients.",
	"msfs.max_uploads": "Uploads at work at once; more are refused as busy.",
	"msfs.max_connections": "Most connections at a time; a quarter of the limit of open files lowers it. Beyond " +
		"it those that wait longest without a request make room.",
	"msfs.min_free": "With less room on the folder's disk nothing more is taken, sounds of audio messages " +
		"kept here included.",
	"msfs.scaled_cache": "Memory for scaled pictures. Clients show avatars as <path>_100x100.jpg: the picture " +
		"is scaled once and kept here. 0B: it is served as it is.",
	"msfs.scale_pixels": "Largest picture that is scaled, in pixels; a larger one is served as it is. Scaling " +
		"one takes about 2 bytes of memory for each of its pixels, 24 for one made to waste " +
		"memory.",
	"msfs.s3_endpoint":   "Host, or host:port, of an S3 server that keeps the files instead of the folder.",
	"msfs.s3_bucket":     "Bucket, which is there already.",
	"msfs.s3_prefix":     "Before every name in the bucket.",
	"msfs.s3_region":     "Region; empty: asked of the server.",
	"msfs.s3_access_key": "Access key.",
	"msfs.s3_secret_key": "Secret key.",
	"msfs.s3_plain":      "HTTP instead of HTTPS to the S3 server.",

	"file": "file: passes files from one client to another, or keeps them until the receiver is " +
		"there.",
	"file.listen": "TCP address for clients.",
	"file.advertise_ip": "Address that clients are told to connect to. Empty: the host in listen, else this " +
		"machine's own address.",
	"file.advertise_port": "The port clients are told. 0: the one listened on.",
	"file.server_listen": "Address for message servers. \"auto\": :8601, opened when this process does not run " +
		"all roles. Keep it off the internet: servers are trusted.",
	"file.route": "Addresses of the route servers, asked who is online. Not needed when route runs in " +
		"the same process.",
	"file.check_online": "Whether only users who are online just then may send and fetch files. auto: where " +
		"route servers are known. A process that checks is ready once it is linked to one. A " +
		"C++ route server does not count phones: behind one, users it calls offline are let " +
		"in.",
	"file.dbproxy": "Addresses of the dbproxy servers, with whose list of waiting files those in the " +
		"folder are compared. Not needed when dbproxy runs in the same process. Without any " +
		"the two are not compared; C++ ones do not answer.",
	"file.compare": "How often they are compared: a waiting file that is not listed, since its sender's " +
		"client ended too early, gets listed; a row whose file this server no longer has is " +
		"removed, and a file that its receiver took off the list. 0s: never.",
	"file.compare_grace":   "What is younger than this is left alone when they are compared.",
	"file.dir":             "Folder for files that wait for their receivers. Empty: files in data_dir.",
	"file.workers":         "How many reads and writes of files are done at the same time.",
	"file.max_connections": "Most client connections at a time; the limit of open files lowers it.",
	"file.max_tasks":       "Most transfers that are under way or wait; more are refused.",
	"file.max_user_tasks":  "The same for what one user sends.",
	"file.quota": "Most bytes that one user's files may take while they wait for receivers, unfinished " +
		"ones by their full size.",
	"file.min_free":        "With less room on the folder's disk no further file is taken.",
	"file.keep_unfinished": "How long an upload that broke off may be taken up again.",
	"file.keep_waiting":    "How long a file waits for its receiver.",
	"file.keep_fetched": "How long a file stays after it was sent to its receiver, unless the receiver takes " +
		"it off its list, as clients do once they have it all.",
	"file.upload_window": "Segments of 32KiB asked of an uploading client at once, after the first 512KiB. 1: " +
		"always one by one.",
	"file.login_deadline": "A connection that has not logged in to a transfer by then is closed.",
	"file.idle_timeout": "A client silent for this long, or that owes a segment for this long, is closed. " +
		"Clients send a heartbeat every 30s.",

	"push": "push: wakes phones through Apple's and Google's services. In one process with msg " +
		"or http it works as soon as one of them is set up; else msg.push and http.push say " +
		"where it is.",
	"push.listen": "Address for message servers. \"auto\": :8500, opened when this process does not run " +
		"all roles. Keep it off the internet: servers are trusted.",
	"push.apns_topic":         "Apple: the app's bundle id. Empty: pushes for iOS are only logged.",
	"push.apns_key_file":      "Apple: the signing key, a .p8 file; with apns_key_id and apns_team_id.",
	"push.apns_key_id":        "Apple: the key's id.",
	"push.apns_team_id":       "Apple: the team's id.",
	"push.apns_cert_file":     "Apple: a certificate, .p12 or .pem, instead of a key.",
	"push.apns_cert_password": "Apple: the certificate's password.",
	"push.apns_sandbox":       "Apple: the service for apps under development.",
	"push.apns_url":           "Another address than Apple's, for tests.",
	"push.fcm_credentials":    "Google: the service account's JSON file. Empty: pushes for Android are only logged.",
	"push.fcm_url":            "Another address than Google's, for tests.",
	"push.queue":              "Pushes that may wait for a service; more fail at once.",
	"push.workers":            "Pushes on their way to a service at once.",
	"push.attempts":           "How often a push is tried.",

	"http": "http: calls for other systems of the company, described at /openapi.json. With all " +
		"roles in one process it runs when apps_file is set, and with serve --demo, for " +
		"people on the same machine to register.",
	"http.listen": "HTTP address for other systems. Keys travel in clear: put TLS in front, or keep it " +
		"in a network that is trusted.",
	"http.url": "How people reach it to register, told to them by login. Empty: this machine's own " +
		"address.",
	"http.max_connections": "Most connections at a time; a quarter of the limit of open files lowers it. Beyond " +
		"it those that wait longest without a request make room.",
	"http.apps_file": "File of the systems that may call, with their keys, and of who may register; there " +
		"is an example among the others, http/apps.toml.",
	"http.dbproxy": "Addresses of the dbproxy servers. Not needed when dbproxy runs in the same process.",
	"http.route":   "Addresses of the route servers. Not needed when route runs in the same process.",
	"http.push": "Addresses of the push servers, for what is sent through here. Empty: nobody is " +
		"pushed to about it, unless push runs in the same process. msg.push_text and " +
		"keys.text_key say what pushes show.",

	"link":              "Connections between servers.",
	"link.max_frame":    "Longest frame accepted from another server. A longer one closes the connection.",
	"link.heartbeat":    "A heartbeat is sent when nothing was sent for this long.",
	"link.timeout":      "A server silent for this long counts as gone.",
	"link.call_timeout": "How long another server may take to answer one request.",
	"link.dial_timeout": "How long connecting may take.",
	"link.backoff_max": "Longest pause between two attempts to connect. The pause is at most 400ms for the " +
		"first 30s after a connection was lost, and grows after that.",

	"mysql": "Used with store = \"mysql\".",
	"mysql.master": "Database that is written to: user:password@tcp(host:3306)/teamtalk. As a flag it " +
		"shows in the list of processes; the environment and a file do not.",
	"mysql.slave": "A replica for reads that may be a moment old. Empty: the master.",
	"mysql.replica_lag": "How far the slave may be behind: for this long after a write, reads of the same " +
		"user or conversation go to the master.",

	"redis":          "Used with store = \"mysql\".",
	"redis.addrs":    "Address of Redis; with a cluster, some of its nodes.",
	"redis.username": "User of Redis' access lists. Empty: the default user.",
	"redis.password": "Password of Redis.",
	"redis.db":       "Number of the logical database. A cluster has only 0.",
	"redis.cluster":  "It is a Redis Cluster. Several addresses mean that too.",
	"redis.unread": "Where unread counts and message ids are, when they are not where the settings above " +
		"say: redis://user:password@host:6379/1, hosts separated by commas, ?cluster=true. " +
		"Without a host (redis:///1) only the database is another.",
	"redis.group_set":    "The same for groups' push settings.",
	"redis.token":        "The same for push tokens.",
	"redis.sync":         "The same for sync marks.",
	"redis.group_member": "The same for group members.",

	"keys": "Keys shared with the clients.",
	"keys.text_key": "Key of the clients' text encryption, 32 bytes. Only push notifications show texts, " +
		"and [语音] in lists of conversations is encrypted with it.",
}
