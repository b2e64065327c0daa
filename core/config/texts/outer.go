package texts

// outer are those of the servers that no text passes: files, pushes and HTTP calls.
var outer = map[string]string{
	"msfs": "msfs: keeps small files (pictures, avatars, sounds) and serves them " +
		"over HTTP.",
	"msfs.listen": "HTTP address for clients.",
	"msfs.url": "URL of this server for clients and for other dbproxy servers. " +
		"Empty: the host in listen, else msg.advertise_ip1 when msg runs in this process, or " +
		"this machine's own address. Pictures in messages hold the URL. The login servers send " +
		"it to clients unless login.msfs_prior is set. Of several servers they send that of the " +
		"first by name: let them share an S3 bucket, because a file in a folder is on one of them.",
	"msfs.dir": "Folder for the files. Empty: the folder msfs in data_dir. Not used " +
		"with S3.",
	"msfs.max_size": "Largest file accepted from clients.",
	"msfs.max_uploads": "Maximum number of uploads in progress at a time. The server refuses " +
		"more as busy. It also refuses an upload from an address that has as many in progress " +
		"as further ones are possible, so one address leaves half of them to others. Addresses " +
		"in strangers.trusted_networks have no such limit.",
	"msfs.max_connections": "Maximum number of connections at a time. A quarter of the limit of " +
		"open files lowers it. Above it, the server closes idle connections of the address " +
		"with the most connections to make room.",
	"msfs.upload_rate": "Bytes that one address (IPv6: one network of 64 bits) may upload per " +
		"second on average. The server refuses uploads beyond it. A file counts with at least " +
		"16KiB. The default suffices for a company behind one router: 500 users may send 14MiB " +
		"an hour each. The networks in strangers.trusted_networks have no limit: add those of " +
		"dbproxy servers on other machines, which upload sounds. 0B: no limit.",
	"msfs.upload_burst": "Bytes that one address may upload at once, before upload_rate " +
		"applies. Not below max_size.",
	"msfs.tickets": "Tickets for uploads. The message server gives them to logged-in clients of " +
		"this project that ask. \"optional\": a ticket counts the upload for its user, with the " +
		"same limits, and not for its address. \"required\": uploads without a valid ticket are " +
		"refused, so stock clients cannot send pictures, and C++ db_proxies cannot keep sounds; " +
		"downloads stay open. Set the same on msg, msfs and dbproxy servers. \"off\": none, for " +
		"stock clients.",
	"msfs.ticket_key": "Key that signs tickets, at least 32 bytes, such as the output of " +
		"openssl rand -hex 32. All msg, msfs and dbproxy servers need the same one; change it on " +
		"all at once. Tickets are valid for 5 minutes, so their clocks may differ by 30 seconds. " +
		"Empty: a new key at each start. That works while msg, msfs and dbproxy run in this " +
		"process, no setting names a login, route, dbproxy or small file server elsewhere, and " +
		"none finds this one with registry.enabled.",
	"msfs.quota": "Space for all files in the folder, in blocks of 4KiB. The server accepts no " +
		"files beyond it, sounds included, and warns in the log from 90 % on. Files of earlier " +
		"runs are counted in the background after each start. Not for S3: set the bucket's own " +
		"quota. 0B: no limit but min_free. That is the default, because the right size depends " +
		"on the disk, and an older folder may be large already.",
	"msfs.min_free": "Free space on the folder's disk below which the server accepts no " +
		"files. It accepts none either with less than 1 % of the inodes free. This includes the " +
		"sounds of audio messages that are kept here. /readyz then names msfs, and fails if the " +
		"process has only the roles msfs and file.",
	"msfs.expire_after": "Time after which the server deletes a file that nobody has uploaded " +
		"or downloaded meanwhile, such as 17520h for two years. A picture in an old text that " +
		"nobody has looked at for so long is then gone, and so is a sound. The avatars of users " +
		"and groups stay if the dbproxy servers have the same value. Files of earlier runs count " +
		"as downloaded when the setting is switched on. Uploads and downloads are known to the " +
		"day, from small marks beside the files. At least 24h. 0s: files never expire.",
	"msfs.expire_unused_after": "The same for files that nobody has ever downloaded, such as " +
		"720h: those that fill a disk are of this kind. A picture that was sent is downloaded by " +
		"its receiver, and sounds do not count as unused. Those that C++ db_proxies keep do, " +
		"unless their networks are in strangers.trusted_networks. 0s: expire_after applies to " +
		"these files too.",
	"msfs.scaled_cache": "Memory for scaled pictures. Clients show avatars as " +
		"<path>_100x100.jpg. The server scales such a picture once and keeps the result in " +
		"memory. 0B: the picture is served in its original size.",
	"msfs.scale_pixels": "Largest picture that the server scales, in pixels. A larger picture " +
		"is served in its original size. Scaling takes about 2 bytes of memory for each pixel, " +
		"and up to 24 for a picture made to waste memory.",
	"msfs.s3_endpoint": "Host or host:port of an S3 server that keeps the files instead of " +
		"the folder.",
	"msfs.s3_bucket":     "Bucket on the S3 server. It must exist.",
	"msfs.s3_prefix":     "Prefix of every object name in the bucket.",
	"msfs.s3_region":     "Region of the bucket. Empty: the region that the S3 server reports.",
	"msfs.s3_access_key": "Access key for the S3 server.",
	"msfs.s3_secret_key": "Secret key for the S3 server.",
	"msfs.s3_plain":      "Use HTTP instead of HTTPS to the S3 server.",

	"file": "file: passes files from one client to another, or keeps them until " +
		"the receiver fetches them.",
	"file.listen": "TCP address for clients.",
	"file.advertise_ip": "Address that clients are told to connect to. Empty: the host in " +
		"listen, else msg.advertise_ip1 when msg runs in this process, or this machine's own " +
		"address.",
	"file.advertise_port": "Port that clients are told to connect to. 0: the port in listen.",
	"file.server_listen": "Address for message servers, or \"off\". \"auto\": :8601, opened " +
		"when this process does not run all roles. Keep the port off the internet, because the " +
		"server trusts every peer.",
	"file.route": "Addresses of the route servers, which report the users that are " +
		"online. Not needed when route runs in the same process, or with registry.enabled.",
	"file.check_online": "Check that a user is online before the user may send or fetch " +
		"files. auto: check when route servers are named or registered. A process that checks is " +
		"ready once it has a link to a route server. A C++ route server does not count phones, " +
		"so behind one, users that it reports as offline are admitted too.",
	"file.dbproxy": "Addresses of the dbproxy servers, which hold the list of waiting " +
		"files. The file server compares the files in its folder with this list. Not needed when " +
		"dbproxy runs in the same process, or with registry.enabled. Without a dbproxy there is " +
		"no comparison. C++ servers do not answer it.",
	"file.compare": "Interval at which the file server compares its folder with the list " +
		"of waiting files. A finished file is listed at once. The comparison adds a waiting " +
		"file that is missing from the list nevertheless. It removes an entry whose file it no " +
		"longer has. It deletes a file that its receiver removed from the list. 0s: never, and " +
		"a file is listed only when its sender's client reports it.",
	"file.compare_grace": "Age below which the comparison ignores files and entries.",
	"file.dir": "Folder for files that wait for their receivers. Empty: the folder " +
		"files in data_dir.",
	"file.workers": "Number of reads and writes of files at the same time.",
	"file.max_connections": "Maximum number of client connections at a time. The limit of open " +
		"files lowers it.",
	"file.max_tasks": "Maximum number of transfers that are in progress or wait. The " +
		"server refuses more.",
	"file.max_user_tasks": "Maximum number of transfers in progress or waiting that one user " +
		"sends. The server refuses more.",
	"file.quota": "Maximum number of bytes of one user's files that wait for " +
		"receivers. An unfinished file counts with its full size.",
	"file.min_free": "Free space on the folder's disk below which the server accepts no " +
		"further file. /readyz then names file, and fails if the process has only the roles " +
		"msfs and file.",
	"file.keep_unfinished": "Time for which an interrupted upload can be resumed.",
	"file.keep_waiting":    "Time for which a file waits for its receiver.",
	"file.keep_fetched": "Time for which a file stays after the server sent it to its " +
		"receiver. The server deletes it earlier when the receiver removes it from the list, as " +
		"clients do after a complete download.",
	"file.upload_window": "Number of segments of 32KiB requested from an uploading client at " +
		"once, after the first 512KiB. 1: one at a time.",
	"file.login_deadline": "Longest time from connecting to the login to a transfer. The server " +
		"then closes a connection without a login.",
	"file.idle_timeout": "Silence of a client after which the server closes its connection. " +
		"The server also closes a connection whose client owes a segment for this long. Clients " +
		"send a heartbeat every 30s.",

	"push": "push: wakes phones through the services of Apple and Google. In " +
		"one process with msg or http it works as soon as one of the services is set up. In a " +
		"process of its own, msg.push and http.push must hold its address.",
	"push.listen": "Address for message servers, or \"off\". \"auto\": :8500, opened " +
		"when this process does not run all roles. Keep the port off the internet, because the " +
		"server trusts every peer.",
	"push.apns_topic": "Apple: bundle id of the app. Empty: pushes for iOS are only " +
		"logged.",
	"push.apns_key_file": "Apple: signing key, a .p8 file. It needs apns_key_id and " +
		"apns_team_id.",
	"push.apns_key_id":        "Apple: id of the signing key.",
	"push.apns_team_id":       "Apple: id of the team.",
	"push.apns_cert_file":     "Apple: certificate, a .p12 or .pem file, instead of a signing key.",
	"push.apns_cert_password": "Apple: password of the certificate.",
	"push.apns_sandbox":       "Apple: use the service for apps under development.",
	"push.apns_url":           "Address to use instead of Apple's, for tests.",
	"push.fcm_credentials": "Google: JSON file of the service account. Empty: pushes for " +
		"Android are only logged.",
	"push.fcm_url": "Address to use instead of Google's, for tests.",
	"push.queue": "Number of pushes that may wait for a service. More pushes fail " +
		"at once.",
	"push.workers":  "Number of pushes in flight to a service at the same time.",
	"push.attempts": "Number of attempts for each push.",

	"http": "http: calls for other systems of the company, described at " +
		"/openapi.json. With all roles in one process it runs when apps_file is set. With serve " +
		"--demo it runs too, so that users on the same machine can register.",
	"http.listen": "HTTP address for other systems. Keys travel unencrypted. Put TLS in " +
		"front, or keep the port in a trusted network.",
	"http.url": "URL at which users reach this server to register, sent to clients " +
		"by the login server. Empty: the host in listen, else msg.advertise_ip1 when msg runs in " +
		"this process, or this machine's own address.",
	"http.max_connections": "Maximum number of connections at a time. A quarter of the limit of " +
		"open files lowers it. Above it, the server closes idle connections of the address " +
		"with the most connections to make room.",
	"http.apps_file": "File with the systems that may call, their keys, and the rules of " +
		"registration. The examples include one: http/apps.toml.",
	"http.dbproxy": "Addresses of the dbproxy servers. Not needed when dbproxy runs in " +
		"the same process, or with registry.enabled.",
	"http.route": "Addresses of the route servers. Not needed when route runs in the " +
		"same process, or with registry.enabled.",
	"http.push": "Addresses of the push servers, for messages sent over the HTTP API. " +
		"Empty: no pushes are sent for these messages, unless push runs in the same process, or " +
		"is found with registry.enabled. " +
		"msg.push_text and keys.text_key determine the text of pushes.",
	"http.trusted_proxies": "Networks (CIDR) of HTTP proxies in front of any HTTP port, those of " +
		"login and msfs included. In their requests http.client_header names the client: the " +
		"last address there that is in none of these networks. Networks of " +
		"apps, registration, limits of wrong keys and the audit log use it. " +
		"tls.plain_networks applies to the proxy. Elsewhere such headers have no effect.",
	"http.client_header": "Header in which the proxies of http.trusted_proxies name the client. " +
		"Choose the one that they set in every request: a client can send the others, which " +
		"proxies pass on, and they do not count. x-forwarded-for: X-Forwarded-For, and without " +
		"it X-Real-IP. x-real-ip: X-Real-IP. forwarded: Forwarded (RFC 7239). Without a usable " +
		"address the client is the proxy, and calls of apps with networks are refused.",

	"web": "web: serves the page with which users chat in a browser, and connects it to the " +
		"message servers. It runs when listen is set.",
	"web.listen": "HTTP address of the page, or \"off\". With tls.certificate the port serves " +
		"HTTPS too. serve --demo opens 127.0.0.1:8800. Browsers lend a page the microphone and " +
		"notifications only over HTTPS, or on their own machine. A proxy in front must keep the " +
		"header Host, or msg.websocket_origins must list the page.",
	"web.max_connections": "Maximum number of connections at a time. A page that is open has " +
		"one. Where a message server runs in this process, it counts in msg.max_connections " +
		"instead. A quarter of the limit of open files lowers it. Above it, the server closes " +
		"idle connections of the address with the most connections to make room.",
	"web.websocket": "URL of the message servers' port for WebSocket (msg.websocket_listen) or " +
		"of a balancer before it, such as wss://chat.example.com:8001/. Pages then connect there. " +
		"Empty: pages connect to this port. The message server of this process takes the " +
		"connections over. To one elsewhere this port carries their bytes, which takes 23KB of " +
		"memory for each, with TLS.",
	"web.hide_text_key": "Whether the page gets no keys.text_key. Without the key a page shows " +
		"and sends texts only where clients do not encrypt them. Everybody that can load the " +
		"page can read the key, as everybody that has a stock client.",
	"web.msg": "Addresses of the message servers' ports for WebSocket. Their proxy.networks must " +
		"name this server, which tells them the address of each client with the PROXY protocol. " +
		"Not needed when msg runs in the same process, or with registry.enabled.",
	"web.msg_ca": "File with the certificates of the CA of the tls.certificate of the servers to " +
		"which pages are connected, in PEM form. With it connections to message servers, to file " +
		"servers and to those that are registered use TLS, and their certificates must hold the " +
		"host by which this server knows them. The file is read at the start. Empty: no TLS, so " +
		"they must be on this machine, unless link_tls allows links without TLS.",
	"web.file": "Addresses of the file servers, as clients are told them, with which pages " +
		"exchange files. The rules of msg apply. Not needed when file runs in the same process, " +
		"or with registry.enabled.",
	"web.msfs": "URL of the small file server that the page uses, which this server passes on. " +
		"Its http.trusted_proxies must name this server. Empty: the msfs in the same process, " +
		"or login.msfs_prior, or the first one that is registered.",
	"web.register": "URL of the HTTP API (role http) to which the page's registrations go. Its " +
		"http.trusted_proxies must name this server. Empty: the http in the same process, or " +
		"login.register, or the first one that is registered.",
	"audit": "Audit log, a line of JSON for each event: logins, refused logins, ends of " +
		"sessions, registrations, calls of the HTTP API, and commands that open the store. It " +
		"holds no contents of messages, and no passwords. The page core/audit/EVENTS.md " +
		"describes the lines. While lines are lost, because a disk " +
		"is full for example, /readyz calls the audit log degraded, and teamtalk_audit_failing " +
		"is 1.",
	"audit.file": "File to which lines are added. Several processes of one machine may write to " +
		"the same file. SIGHUP makes a server open it again, after its rotation. Empty: none.",
	"audit.syslog": "Syslog that gets the lines, with facility authpriv: local, or a URL such as " +
		"udp://10.0.0.9:514 or tcp://10.0.0.9:514. Empty: none.",
	"trace": "Traces of single messages through the servers, for a collector of OpenTelemetry. " +
		"They hold message ids and times, and no contents.",
	"trace.endpoint": "URL of the collector, which takes OTLP over HTTP, such as " +
		"http://127.0.0.1:4318. Without a path, /v1/traces is added. Empty: nothing is traced.",
	"trace.ratio": "Share of the messages that are traced, from 0 to 1. Set it alike in all " +
		"processes: each decides by the message id, so that a trace has the spans of all.",
}
