// Package texts describes every setting and every section for operators. The texts stand here,
// apart from the settings, because a struct tag cannot span several lines.
package texts

import "maps"

// All returns the texts, by the key of the setting or the section. The first sentence of a text is
// the help of the flag. The caller may change the map.
func All() map[string]string {
	all := maps.Clone(common)
	maps.Copy(all, outer)
	return all
}

// common are those of the whole process, of the servers that a text passes, and of what
// they connect to.
var common = map[string]string{
	"data_dir": "Directory of the embedded store. The server creates it when it is " +
		"missing.",
	"store": "Storage of users and messages. \"embedded\" needs no other software and " +
		"serves one dbproxy process. \"mysql\" needs MySQL and Redis (see [mysql] and [redis]).",
	"roles": "Servers to run in this process: login, msg, route, dbproxy, msfs, file, " +
		"push, http, web. In a process with all roles the servers find each other without " +
		"addresses. " +
		"A process with fewer roles finds its peers in the registry (registry.enabled), or needs " +
		"their addresses.",
	"workers": "Number of requests that work on the store at the same time. The numbers " +
		"of database connections and Redis connections derive from it. 0: derived from the " +
		"number of cores.",
	"loops": "Number of event loops that serve the connections. 0: one per core, or as many as a " +
		"container's quota of processors allows.",
	"shutdown_timeout": "Longest time that a stopping process takes to finish the requests that " +
		"it has accepted. While the store answers, a message server needs three seconds: it " +
		"stores and acknowledges what its clients send until each can be disconnected, and " +
		"waits for two seconds until they have closed their connections.",

	"log":        "Logs are written to standard error.",
	"log.level":  "Lowest level of messages to log.",
	"log.format": "Format of the log. text: key=value, for people. json: for log collectors.",

	"admin": "HTTP for operators: /metrics (Prometheus), /healthz, /readyz.",
	"admin.listen": "Address of the admin port, or \"off\". The port asks for no password. " +
		"Choose an address that only operators reach.",
	"admin.pprof": "Serve Go's profiler under /debug/pprof/ on the admin port. Its profiles " +
		"include waits for locks.",

	"node": "This process among those of the deployment.",
	"node.name": "Name of this process, which stays the same when it restarts. The processes " +
		"that run a role need different names: give names to those on one machine, such as " +
		"msg-1 and msg-2. It has at most 64 letters a to z and A to Z, digits, dots, hyphens and " +
		"underscores. msg-1 and MSG-1 are two names. " +
		"Empty: the name of this machine, in small letters. Used with registry.enabled.",

	"registry": "Registry of the servers of a deployment, in Redis. Each process says which " +
		"servers it runs, at which addresses and how busy, and reads those of others. \"teamtalk " +
		"cluster\" lists them. The page sql/redisregistry/DESIGN.md says what happens in failures.",
	"registry.enabled": "Register the servers of this process, and find those of other " +
		"processes. A setting with addresses, such as msg.dbproxy, is used instead where it is " +
		"not empty: C++ servers do not register. A server in this process is one of the " +
		"registered ones if it has a port for servers (and dbproxy no embedded store). " +
		"Otherwise this process uses it alone. Login servers find message servers here, so " +
		"msg needs no link to them.",
	"registry.redis": "Redis of the registry, when it is not the one of the section redis, " +
		"written as redis.unread. All processes of a deployment need the same. " +
		"Empty: the instance in the section redis.",
	"registry.advertise": "Address of this machine, a host name or an IP address, at which the " +
		"servers of this process are reached by others. The ports are those of the settings " +
		"listen and server_listen. Empty: the hosts in these settings. Needed when one of them " +
		"has none, because a machine may have several addresses.",
	"registry.lease": "Time without a renewal after which a server counts as gone. At least " +
		"three times renew and poll. Set it alike in all processes.",
	"registry.renew": "Longest time between two renewals. A call to Redis may take as long.",
	"registry.poll":  "Longest time between two readings of the other servers.",

	"login": "login: tells each client the address of the least loaded " +
		"message server.",
	"login.client_listen": "TCP address for clients that ask for a message server with a " +
		"PDU, or \"off\".",
	"login.http_listen": "HTTP address for clients that ask with GET /msg_server, or " +
		"\"off\".",
	"login.http_max_connections": "Maximum number of HTTP connections at a time. A quarter of " +
		"the limit of open files lowers it. Above it, the server closes idle connections of " +
		"the address with the most connections to make room.",
	"login.server_listen": "Address for message servers, or \"off\". \"auto\": :8100, " +
		"opened when this process does not run all roles. Keep the port off the internet, " +
		"because the server trusts every peer.",
	"login.ip2_networks": "Networks (CIDR) whose clients receive a message server's " +
		"second address first. All other clients receive the first address first.",
	"login.msfs_prior": "URL of the small file server for clients, with a slash at the " +
		"end. Empty: that of this process, when msfs runs in it, otherwise the first by name of " +
		"those that are registered (registry.enabled).",
	"login.msfs_backup": "URL of the small file server for clients over another network " +
		"path. Empty: the value of msfs_prior.",
	"login.discovery": "URL of the discovery page for clients.",
	"login.register": "URL of the HTTP API (role http) where users register " +
		"themselves, sent to clients. Empty: the HTTP API of this process, when http runs in it " +
		"and its registration is open.",

	"msg":        "msg: holds the connections of the clients.",
	"msg.listen": "TCP address for clients.",
	"msg.advertise_ip1": "Address that clients are told to connect to. Empty: the host in " +
		"listen, or this machine's own address when listen has no host.",
	"msg.advertise_ip2": "Second address of the same server for clients, for example over " +
		"another carrier. Empty: the value of advertise_ip1.",
	"msg.advertise_port": "Port that clients are told to connect to. 0: the port in listen.",
	"msg.max_connections": "Maximum number of client connections at a time. The limit of " +
		"open files lowers it. 0: only the limit of open files applies.",
	"msg.whereabouts": "Place where message servers find the other message servers that have a " +
		"user. route: the route servers. redis: Redis, for clusters with registry.enabled. Then " +
		"there are no route servers: the message servers send straight to each other, over " +
		"server_listen. All message servers of a cluster need the same value.",
	"msg.server_listen": "Address for other message servers, and for servers whose settings " +
		"name it in place of a route server (http.route, file.route). The port opens only with " +
		"whereabouts = \"redis\". \"auto\": :8300. Keep the port off the internet, because the " +
		"server trusts every peer.",
	"msg.websocket_listen": "Address for clients that use WebSocket, such as web pages, or " +
		"\"off\". The port takes WebSocket only, with TLS where listen does, and has the limits " +
		"of listen, each for itself. A binary message holds one PDU.",
	"msg.websocket_origins": "Pages that may open a WebSocket, as browsers name them: " +
		"https://chat.example.com, with the port if it is not that of the scheme. \"*\": all " +
		"pages. Empty: the pages of the host to which the browser connects, on any port. " +
		"Programs that are no browsers send no origin and are always let in.",
	"msg.websocket_login_deadline": "Longest time from connecting to the login over WebSocket. " +
		"A page connects before its user types a password. login_deadline applies until the " +
		"connection is WebSocket.",
	"msg.device_policy": "Effect of a second login of a user. device_class: the new " +
		"session replaces a session of the same device class, so one pc and one phone may be " +
		"online together. one_client: the new session replaces every other session of the user. " +
		"keep_first: the server refuses the new login. unlimited: all sessions stay.",
	"msg.ack": "Moment at which a sender receives the ack of a message. stored: " +
		"when the message is stored. delivered: when a device of the receiver has acknowledged " +
		"the message, or after ack_wait. With delivered, the ack follows the storing at once if " +
		"the receiver is offline or has no device that acknowledged a message before. No ack is " +
		"sent before the message is stored.",
	"msg.ack_wait": "Longest wait for the receiver's ack with ack = \"delivered\".",
	"msg.redeliver_after": "Time without an ack after which the server sends a message to a " +
		"connected client again. Each message is sent again once. The server does so only for " +
		"clients that have acknowledged a message of that kind before, because a client that " +
		"sends no acks would show the message twice. 0s: never.",
	"msg.resend_window": "Time in which the server deduplicates messages of a device. A second " +
		"message with the same seq and content to the same receiver counts as the same message, " +
		"also on a new connection to any message server. 0s: every message without a " +
		"client_msg_id counts as a new one.",
	"msg.release": "Time over which a message server that stops or drains ends the connections " +
		"of its clients, at an even pace, so that they do not all log in elsewhere at once. It " +
		"has an effect with registry.enabled, while another message server is registered. A stop " +
		"takes half of shutdown_timeout for it at most. 0s: all together.",
	"msg.hold": "Time for which the server holds a message that no dbproxy stored, unless the " +
		"client asks to be told (clients of this project). It stores the message as soon as a " +
		"dbproxy stores messages again, in the order of the sender. Windows clients repeat a " +
		"message after 6 s, phones report a failure after 6 to 11 s without an ack: keep it " +
		"below. A message that may be stored is held for 10 s at least. Queries that only read " +
		"wait as long as msg.hold for a server that answers them. 0s: " +
		"Windows clients have to repeat the message, those of others are lost, and a client " +
		"gets no answer to its query.",
	"msg.rate": "Messages a second that one connection may send. The server drops " +
		"messages above the limit without an ack and counts them. 0: no limit.",
	"msg.rate_burst": "Number of messages that one connection may send at once before " +
		"rate applies.",
	"msg.presence": "Pc clients that learn that a user's pc went online or offline. " +
		"all: every pc client. contacts: pc clients of users that have a conversation with the " +
		"user. none: no client. auto: contacts with whereabouts = \"redis\", all otherwise. All " +
		"message servers of a deployment need the same value.",
	"msg.presence_window": "Time for which the server collects status changes. It sends them " +
		"to each client in one write. A user that goes online and offline within this time " +
		"appears once. With whereabouts = \"redis\" changes go to the other message servers in " +
		"one message for half this time. 0s: each change is sent at once.",
	"msg.max_frame": "Longest frame (PDU with its header) accepted from a client. A " +
		"longer one closes the connection.",
	"msg.slow_consumer": "High-water mark of the bytes that wait for a client that does " +
		"not read. Above it, the server closes the connection, and the client fetches the missed " +
		"messages after its next login. Frames of 64KiB and more, such as the first list of all " +
		"users, do not count toward it. They have a limit of 16 times as much, which applies as " +
		"long as the client continues to read.",
	"msg.login_deadline": "Longest time from connecting to the login. The server then " +
		"closes a connection without a login.",
	"msg.pc_timeout": "Silence of a pc client after which the server closes its " +
		"connection. Clients send a heartbeat every 30s.",
	"msg.mobile_timeout": "Silence of a phone client after which the server closes its " +
		"connection.",
	"msg.dbproxy": "Addresses of the dbproxy servers. Not needed when dbproxy runs " +
		"in the same process, or with registry.enabled. Write an address in the same way for " +
		"all message servers and HTTP APIs, because it decides which conversations the dbproxy " +
		"stores. With the registry the name of its process does.",
	"msg.route": "Addresses of the route servers. Not needed when route runs in " +
		"the same process, with registry.enabled, or with whereabouts = \"redis\".",
	"msg.login": "Addresses of the login servers. Not needed when login runs in " +
		"the same process, or with registry.enabled.",
	"msg.push": "Addresses of the push servers. Empty: no pushes are sent, unless push runs " +
		"in the same process, or is found with registry.enabled. For messages of the HTTP API, " +
		"set http.push.",
	"msg.file": "Addresses of the file servers. Not needed when file runs in the same " +
		"process, or with registry.enabled. Without a file server, clients can send no files " +
		"other than pictures.",
	"msg.require_cipher": "Drop texts that are not encrypted as the clients do it: base64 " +
		"of whole blocks of 16 bytes. A dropped text gets no ack. The metric " +
		"teamtalk_msg_dropped_total counts it as no_cipher. Set this where users have the " +
		"original iOS client, because that client reads freed memory when it receives any other " +
		"text. Leave it off for web clients and bots that send plain text.",
	"msg.push_text": "Number of characters of a message that a push shows after the " +
		"sender's nick. It also applies to messages of the HTTP API. 0: pushes show no text, " +
		"only the sender (Nick给您发送了一条消息). Consider that pushes pass through the services of " +
		"Apple and Google.",
	"msg.dbproxy_connections": "Number of connections to each dbproxy server. From two on, half " +
		"of those to each server are reserved for logins and first screens, so that a flood of " +
		"messages does not delay these.",

	"route": "route: knows the message server of each online user, and forwards between " +
		"message servers.",
	"route.listen": "Address for message servers, or \"off\". \"auto\": :8200, opened when this " +
		"process does not run all roles. Keep the port off the internet, because the server " +
		"trusts every peer.",
	"route.flood": "Forward every PDU to all message servers, not only to those that hold a " +
		"user concerned. Set this for message servers that do not report their users.",

	"dbproxy": "dbproxy: the only server that accesses the store.",
	"dbproxy.listen": "Address for the other servers, or \"off\". \"auto\": :10600, " +
		"opened when this process does not run all roles. Keep the port off the internet, " +
		"because the server trusts every peer.",
	"dbproxy.message_shards": "Number of batches of messages in flight to the store at the " +
		"same time. 0: the number of cores, but at least 2 and at most 4, and 1 for the embedded " +
		"store.",
	"dbproxy.queue": "Number of requests that may wait. Messages do not count. " +
		"Above it, the server refuses new requests as busy. 0: 2048 per worker.",
	"dbproxy.session_sync": "Interval at which the server updates the conversation lists " +
		"of the members of groups. One dbproxy process does this at a time, and a process that " +
		"does nothing else every sixth time.",
	"dbproxy.msfs": "URL of the small file server that keeps the sound of audio " +
		"messages. Empty: the small file server of this process, when msfs runs in it, otherwise " +
		"the first by name of those that are registered (registry.enabled). Without any the " +
		"sounds are kept in a folder in data_dir, which serves one dbproxy process.",
	"dbproxy.history_limit": "Maximum number of messages in the answer to one history " +
		"request.",
	"dbproxy.login_lock_attempts": "Number of different wrong passwords for a name from one " +
		"network, within login_lock_window, that locks the name for that network. A network is " +
		"an IPv4 network of 24 bits or an IPv6 network of 64 bits. Clients of message servers " +
		"that tell no address, such as C++ ones, count as one network. 0: names are never locked.",
	"dbproxy.file_expiry": "Time for which a file that is not fetched stays on its " +
		"receiver's list. file.keep_waiting is the time for which the file server keeps the " +
		"file. A file server that compares (file.compare) lists a file again while it keeps it. " +
		"0s: no limit.",
	"dbproxy.message_expiry": "Age from which the server deletes texts and sounds, also unread " +
		"ones, such as 9600h for 400 days; at least 48h. The last message of each conversation " +
		"stays. One dbproxy process does it at a time, once a day, in small steps: give all the " +
		"same value. `teamtalk prune` counts what it would delete. 0s: never.",
	"dbproxy.message_expiry_hours": "Hours of the day in which message_expiry deletes, in the " +
		"local time of the server, such as 01:00-06:00. The next hours continue a run that " +
		"has not finished. Empty: at any time.",
	"dbproxy.login_lock_window": "Time for which a wrong password counts. A locked name or " +
		"network stays locked for this long.",
	"dbproxy.login_lock_network": "Number of different wrong passwords from one network for " +
		"names that have not logged in from it, within login_lock_window. It locks such names " +
		"for that network, and those of others keep working. Raise it where more people " +
		"than that mistype a password on their first day behind one router. 0: no limit.",
	"dbproxy.login_lock_name": "Number of different wrong passwords for a name from all " +
		"networks together, within login_lock_name_window. It locks the name for networks from " +
		"which it has not logged in. 0: no limit.",
	"dbproxy.login_lock_name_window": "Time for which a wrong password counts for " +
		"login_lock_name.",
	"dbproxy.login_known": "Time for which a network is known after a login of a user. From " +
		"known networks, wrong passwords elsewhere do not lock the user out.",
	"dbproxy.group_creations": "Number of groups that a user may make at once. As many are " +
		"regained within an hour, evenly. Requests of other systems as user 0, and the " +
		"commands of the shell, do not count. 0: no limit.",
	"dbproxy.group_adds": "Number of users that a user may put into groups at once. As many " +
		"are regained within an hour, evenly. A larger request is refused. 0: no limit.",
	"dbproxy.group_gains": "Number of groups into which a user may be put by others at once. " +
		"As many are regained within an hour, evenly. One other user has a quarter of it. " +
		"Above it, the user is left out of the group, as if it did not exist. 0: no limit.",
	"dbproxy.group_memberships": "Number of groups in which a user may be because others put " +
		"it there. One other user has a quarter of it. Above it, the user is left out of " +
		"further groups until it leaves some. Groups of other systems and of the shell, and " +
		"memberships from before this setting or from a C++ db_proxy, do not count. " +
		"0: no limit.",
	"dbproxy.group_left": "Time for which a user that left a group by itself is not added " +
		"to it by its members. The user may return by itself, and other systems as user 0 and " +
		"the shell may add it. 0: members may add it at once.",

	"strangers": "Connections of clients that have not logged in, on the ports of msg, " +
		"login and file. When a port is full, the server closes one of the address with the " +
		"most: the one that connected, or sent its first request, longest ago. It never " +
		"closes a client with a login for one without.",
	"strangers.per_address": "Maximum number of connections without a login from one " +
		"address (IPv6: one network of 64 bits), and on each HTTP port, where nobody logs " +
		"in, of all its connections. Above it, the server closes an older one of the " +
		"address. A login takes milliseconds, so the default suffices for a company behind " +
		"one router. 0: no limit.",
	"strangers.rate": "Connections that one address may open per second, except on HTTP " +
		"ports. The server closes those beyond it on arrival, and clients try again. The " +
		"default lets 10,000 clients behind one router reconnect in 40s. 0: no limit.",
	"strangers.burst": "Connections that one address may open at once, before rate " +
		"applies.",
	"strangers.reserved": "Share of each port's connections that only clients with a login " +
		"may have, in percent.",
	"strangers.memory": "Maximum memory for parts of frames from connections without a " +
		"login, and for answers that they do not read. Above it, the server closes those " +
		"that have held memory longest.",
	"strangers.trusted_networks": "Networks (CIDR) to which per_address, rate and " +
		"msfs.upload_rate do not apply, such as that of a proxy through which all clients " +
		"connect. Wrong passwords from such networks count as those of clients of an unknown " +
		"address.",

	"proxy": "Proxies in front of the ports for clients that send the header of the PROXY " +
		"protocol, version 1 or 2, such as HAProxy with send-proxy-v2, nginx with " +
		"proxy_protocol on, and the balancers of clouds.",
	"proxy.networks": "Networks (CIDR) of these proxies. The servers take the address of the " +
		"client from the header, and close a connection from here that has none. HTTP ports " +
		"and TCP ports alike. Name no network of clients: they could claim any address. A very " +
		"large network gives a warning at the start. Empty: " +
		"no header is read.",

	"tls": "Encryption for clients. With a certificate, the client ports of login, msg and file " +
		"and all HTTP ports also accept TLS: each port serves connections with TLS and without.",
	"tls.certificate": "File with the certificate, followed by those between it and the root, " +
		"in PEM form. SIGHUP makes the server read it again. Empty: no TLS, unless a CA gives " +
		"the certificate (section tls.acme).",
	"tls.key": "File with the certificate's private key in PEM form. Other users of the machine " +
		"must not be able to read it.",
	"tls.min_version": "Oldest version of TLS that clients may use.",
	"tls.plain_networks": "Networks (CIDR) whose clients may connect without TLS. Stock clients " +
		"have no TLS. Empty: all connections of clients need TLS. Without a certificate the " +
		"setting has no effect.",

	"tls.acme": "A certificate for the ports for clients from a CA with the ACME protocol, " +
		"such as Let's Encrypt or a step-ca of your own, which the server orders and renews " +
		"by itself. Meanwhile, and when the CA fails, it shows the certificate that it has. " +
		"Processes that share the folder share the certificate: one of them orders it, and " +
		"the others take it from the folder within a minute.",
	"tls.acme.domains": "Names that the certificate holds, and that all lead to this " +
		"deployment: those that clients connect to, such as msg.advertise_ip1. Names with " +
		"other letters than ASCII have their form xn--. Empty: no certificate is ordered. Not " +
		"together with tls.certificate.",
	"tls.acme.email": "Mail address to which the CA may report problems.",
	"tls.acme.directory": "URL of the CA's directory. The default is Let's Encrypt. Its " +
		"limits for certificates are low: try your settings with its staging environment " +
		"first, https://acme-staging-v02.api.letsencrypt.org/directory.",
	"tls.acme.directory_ca": "File with the CA that signed the certificate of that URL, in " +
		"PEM form, for a private CA. It is read at the start. Empty: the CAs of the system.",
	"tls.acme.agree_tos": "Needed with domains: true says that you agree to the terms of the " +
		"CA.",
	"tls.acme.folder": "Folder for the key of the account, the certificate with its key, and " +
		"the answers to the CA while it checks a name. Only the owner may enter it (mode " +
		"0700). Processes on several machines that serve the same name need a shared one. " +
		"Empty: the folder acme below data_dir.",
	"tls.acme.challenge": "How the CA checks a name. http-01: it asks port 80 of the name " +
		"over HTTP, so http_listen must be that port or get its connections. tls-alpn-01: it " +
		"connects to port 443 of the name, so any of the ports for clients must be that port, " +
		"as with msg.listen = \":443\", or get its connections.",
	"tls.acme.http_listen": "Address to answer the CA's requests on, with http-01. One " +
		"process of those that share the folder needs it, and the others have off, or a proxy " +
		"passes the path /.well-known/acme-challenge/ on to one.",

	"link_tls": "Encryption between servers. With a certificate, servers prove themselves to " +
		"each other: the server ports of login, route, dbproxy, file and push, and the links " +
		"to them, use TLS 1.3, and " +
		"both ends need a certificate of the same private CA. \"teamtalk cert\" makes the CA and " +
		"the certificates. A server whose links leave this machine does not start without them, " +
		"unless cpp_plaintext or plaintext_beyond_loopback allows it. The C++ servers " +
		"have no TLS.",
	"link_tls.ca": "File with the certificates of the private CA, in PEM form. While a CA is " +
		"replaced the file holds both. SIGHUP makes the server read it again. Empty: no TLS " +
		"between servers, which must all be on this machine.",
	"link_tls.certificate": "File with this server's certificate, in PEM form, for the usages " +
		"server and client. Its name may be any. SIGHUP makes the server read it again.",
	"link_tls.key": "File with the certificate's private key in PEM form. Other users of the " +
		"machine must not be able to read it.",
	"link_tls.cpp_plaintext": "Connections without TLS, for rings with C++ servers and for the " +
		"switch to TLS. dial: server ports accept both kinds, and links have no TLS. accept: " +
		"server ports accept both kinds, and links have TLS. off: TLS only, except on loopback " +
		"without a certificate. dial needs no certificate. To switch without " +
		"an interruption, restart all servers with dial, then all with accept, then with off.",
	"link_tls.plaintext_beyond_loopback": "Allow links to other machines, and server ports that " +
		"they reach, without a certificate. Whatever reaches a server port may act for every " +
		"user, so use it only in a network that only servers reach. With a certificate the " +
		"setting has no effect.",

	"password": "Passwords in the store. Set alike for dbproxy, http and teamtalk user.",
	"password.kdf": "" +
		"Form in which passwords are stored. argon2id makes guessing costly for an attacker " +
		"with a copy of the table. The first login after a start of dbproxy then takes 13 ms " +
		"of a core, see also password.workers. md5 is what C++ db_proxies can check. With " +
		"argon2id a user's row moves from md5 at the next login of the user, five minutes " +
		"after its last change at the earliest, and there is no way back: C++ db_proxies " +
		"refuse the logins of these users as wrong, also after the setting is md5 again. " +
		"dbproxy checks each row in its own form. Set argon2id when no C++ db_proxy is left, " +
		"with MySQL after teamtalk migrate finalize, and when all servers have a version that " +
		"knows the setting.",
	"password.memory": "Memory that argon2id takes to check one password. When memory or passes " +
		"are raised, a row moves at the next login of its user. When they are lowered, rows " +
		"stay until the next change of their password.",
	"password.passes": "Number of passes of argon2id over the memory. More passes take more " +
		"time with the same memory.",
	"password.workers": "Number of passwords that dbproxy checks with argon2id at the same time. " +
		"It bounds processor time and memory. Logins that would wait for more than 40 percent of " +
		"link.call_timeout are refused as busy, and clients repeat them. 0: half of the cores, " +
		"at least 1.",
	"password.remember": "Time after a login for which dbproxy checks the same password of the " +
		"same user without argon2id, so that the clients of a message server that restarts can " +
		"return at once. dbproxy keeps a keyed hash in memory, of 65,536 users at least. 0s: " +
		"nothing is remembered.",

	"admin_api": "HTTP API for administrators, described at /openapi.json, and the page that " +
		"calls it, at /: users, departments, groups, nodes, settings and live data. A process " +
		"with it needs the store, and route servers: those of section http, of the registry, or " +
		"its own.",
	"admin_api.listen": "Address of the port, or \"off\". Without TLS (section tls) tokens " +
		"travel unencrypted: then let only this machine reach the port. With TLS only this " +
		"machine may do without, whatever tls.plain_networks says.",
	"admin_api.tokens": "File with the hashes of the tokens, which teamtalk token makes. " +
		"Needed with listen. Changes count at once.",
	"admin_api.messages": "Let tokens with the role admin read messages by their ids. The audit " +
		"log has each of these calls.",

	"link": "Connections between servers.",
	"link.max_frame": "Longest frame (PDU with its header) between servers. db_proxies send a " +
		"longer answer in parts. A longer frame of a C++ server is dropped, and the log says so.",
	"link.max_answer": "Longest answer in parts. A longer one is refused: the client that asked " +
		"is disconnected, and the log says why. Set it alike on all servers. A message server " +
		"uses up to twice as much memory for answers that have not arrived whole.",
	"link.heartbeat":    "Time without a sent PDU after which a server sends a heartbeat.",
	"link.timeout":      "Silence of a peer after which its connection counts as lost.",
	"link.call_timeout": "Longest time that a peer may take to answer one request.",
	"link.dial_timeout": "Longest time that connecting may take.",
	"link.backoff_max": "Longest pause between two attempts to connect. The pause is at most " +
		"400ms for the first 30s after a connection was lost, and grows after that.",

	"mysql": "Used with store = \"mysql\".",
	"mysql.master": "Data source name of the database for writes: " +
		"user:password@tcp(host:3306)/teamtalk. Set it in the environment or in the file, " +
		"because the list of processes shows flags.",
	"mysql.slave": "Data source name of a replica for reads. Empty: the master. The master needs " +
		"a binary log of MariaDB, or both are nodes of one Galera cluster. The master answers " +
		"while the replica is behind or dead.",
	"mysql.replica_wait": "Longest time for which a read waits until the replica has what the " +
		"master has committed. After it the master answers, and the replica is out of use " +
		"until it has caught up.",
	"mysql.ca": "File with the certificates of the CA of the database, in PEM form. With it all " +
		"connections use TLS, and the database must have a certificate of that CA for the host " +
		"in the data source name. Empty: the parameter tls of the data source name decides: " +
		"tls=true verifies with the CAs of the system, tls=skip-verify does not verify, and " +
		"tls=preferred is plain where the server, or a machine in between, says that it has no " +
		"TLS, and gives a warning. The file is read at the start. A certificate that the " +
		"database renews from the same CA needs no restart. To change the CA, put the old and " +
		"the new one in the file, restart the servers, and then give the database its " +
		"certificate.",
	"mysql.certificate": "File with this server's certificate in PEM form, for database users " +
		"with REQUIRE X509. It is read again for each connection.",
	"mysql.key": "File with the certificate's private key in PEM form. Other users of the " +
		"machine must not be able to read it.",

	"redis": "Used with store = \"mysql\", and with registry.enabled.",
	"redis.addrs": "Address of Redis. For a cluster, addresses of some of its nodes. Its " +
		"maxmemory-policy must be noeviction: with another one Redis drops unread counts.",
	"redis.username": "User in the access lists of Redis. Empty: the default user.",
	"redis.password": "Password of Redis.",
	"redis.db":       "Number of the logical database. A cluster has only database 0.",
	"redis.tls": "Connect with TLS, also to the Sentinels. The certificates of servers must hold " +
		"the addresses in these settings, and those by which Sentinels or nodes of a cluster " +
		"name each other. A cluster needs tls-cluster yes, and cluster-announce-ip with an " +
		"address in the certificate. Sentinels and replicas need tls-replication yes, and the " +
		"Sentinels the port with TLS in sentinel monitor.",
	"redis.ca": "File with the certificates of the CA of Redis, in PEM form, for redis.tls and " +
		"for URLs that begin with rediss://. It is read at the start, and changed as mysql.ca. " +
		"Empty: the CAs of the system.",
	"redis.certificate": "File with this server's certificate in PEM form, for a Redis with " +
		"tls-auth-clients. It is read again for each connection.",
	"redis.key": "File with the certificate's private key in PEM form. Other users of the " +
		"machine must not be able to read it.",
	"redis.cluster": "Connect to a Redis Cluster. Several addresses in addrs have the same " +
		"effect.",
	"redis.sentinels": "Addresses of Redis Sentinels, which say where the master is; addrs is " +
		"then not used. After a failover the servers connect to the new master. Give at least " +
		"three Sentinels, on different machines.",
	"redis.master_name": "Name of the master in the configuration of the Sentinels. Used with " +
		"sentinels.",
	"redis.sentinel_username": "User in the access lists of the Sentinels. Empty: the default " +
		"user.",
	"redis.sentinel_password": "Password of the Sentinels, also of those in the URLs below. The " +
		"master has the password above.",
	"redis.unread": "Redis instance of unread counts and message ids, when it is not the " +
		"one above. Write redis://user:password@host:6379/1, with commas between hosts, and " +
		"?cluster=true for a cluster. The hosts are Sentinels with ?sentinel=NAME, where NAME is " +
		"the name of the master. A URL that begins with rediss:// means TLS, with the files " +
		"above. A URL without a host (redis:///1) changes only the database. " +
		"Empty: the instance above.",
	"redis.group_set": "Redis instance of the push settings of groups, written as for unread. " +
		"Empty: the instance above.",
	"redis.token": "Redis instance of push tokens, written as for unread. Empty: the " +
		"instance above.",
	"redis.sync": "Redis instance of sync marks, written as for unread. Empty: the " +
		"instance above.",
	"redis.group_member": "Redis instance of group members, written as for unread. Empty: the " +
		"instance above.",

	"keys": "Keys shared with the clients.",
	"keys.text_key": "Key of the clients' text encryption, 32 bytes. The servers need it only to " +
		"show texts in pushes and to encrypt [语音] in lists of conversations.",
}
