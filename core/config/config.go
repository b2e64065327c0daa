// Package config defines the settings of the servers and reads them. The Config struct
// defines each setting once: its tags give the TOML file, the environment variables, the
// flags, the defaults and the checks. The help texts are in package texts.
//
// A setting has one name in three spellings: msg.listen in the file (section msg, key
// listen), TEAMTALK_MSG_LISTEN in the environment, --msg.listen on the command line. The
// sources are, in this order: default, file, environment, flag. A later source overrides
// an earlier one. An error names the setting, the source of the wrong value, and what the
// setting takes. An unknown name is an error too, except in the environment, where it is
// at most a warning.
package config

import "time"

// The tags of a setting:
//
//	toml     its key; package texts has the help text under section and key
//	default  its default, spelled as in the environment, or a key of wordLists
//	min max  bounds, both included
//	oneof    the words allowed, separated by |, or a key of wordLists
//	form     the syntax of a text, a key of forms or listForms in validate.go

// Config holds every setting. Load returns one with checked values, Default one with the
// defaults. Nothing changes a Config after that, so any goroutine may read it.
type Config struct {
	DataDir string `toml:"data_dir" default:"teamtalk-data"`
	Store   string `toml:"store" default:"embedded" oneof:"embedded|mysql"`

	Roles []string `toml:"roles" default:"all_roles" form:"roles"`

	Workers         int           `toml:"workers" default:"0" min:"0" max:"4096"`
	Loops           int           `toml:"loops" default:"0" min:"0" max:"1024"`
	ShutdownTimeout time.Duration `toml:"shutdown_timeout" default:"30s" min:"0s" max:"1h"`

	Log       Log       `toml:"log"`
	Admin     Admin     `toml:"admin"`
	Node      Node      `toml:"node"`
	Registry  Registry  `toml:"registry"`
	Login     Login     `toml:"login"`
	Msg       Msg       `toml:"msg"`
	Route     Route     `toml:"route"`
	DBProxy   DBProxy   `toml:"dbproxy"`
	MSFS      MSFS      `toml:"msfs"`
	File      File      `toml:"file"`
	Push      Push      `toml:"push"`
	HTTP      HTTP      `toml:"http"`
	Web       Web       `toml:"web"`
	Link      Link      `toml:"link"`
	Strangers Strangers `toml:"strangers"`
	Proxy     Proxy     `toml:"proxy"`
	TLS       TLS       `toml:"tls"`
	LinkTLS   LinkTLS   `toml:"link_tls"`
	Password  Password  `toml:"password"`
	Audit     Audit     `toml:"audit"`
	Trace     Trace     `toml:"trace"`
	AdminAPI  AdminAPI  `toml:"admin_api"`
	MySQL     MySQL     `toml:"mysql"`
	Redis     Redis     `toml:"redis"`
	Keys      Keys      `toml:"keys"`

	origin   map[string]Origin // source of each setting's value, by key
	warnings []string
}

// Log is the section log.
type Log struct {
	Level  string `toml:"level" default:"info" oneof:"debug|info|warn|error"`
	Format string `toml:"format" default:"text" oneof:"text|json"`
}

// Admin is the section admin.
type Admin struct {
	Listen string `toml:"listen" default:"127.0.0.1:9090" form:"listen"`
	PProf  bool   `toml:"pprof" default:"false"`
}

// Login is the section login.
type Login struct {
	ClientListen       string   `toml:"client_listen" default:":8008" form:"listen"`
	HTTPListen         string   `toml:"http_listen" default:":8080" form:"listen"`
	HTTPMaxConnections int      `toml:"http_max_connections" default:"10000" min:"1" max:"10000000"`
	ServerListen       string   `toml:"server_listen" default:"auto" form:"internal"`
	IP2Networks        []string `toml:"ip2_networks" default:"" form:"cidr"`
	MSFSPrior          string   `toml:"msfs_prior" default:"" form:"url"`
	MSFSBackup         string   `toml:"msfs_backup" default:"" form:"url"`
	Discovery          string   `toml:"discovery" default:"" form:"url"`
	Register           string   `toml:"register" default:"" form:"url"`
}

// Msg is the section msg.
type Msg struct {
	Listen         string `toml:"listen" default:":8000" form:"listen"`
	AdvertiseIP1   string `toml:"advertise_ip1" default:"" form:"host"`
	AdvertiseIP2   string `toml:"advertise_ip2" default:"" form:"host"`
	AdvertisePort  int    `toml:"advertise_port" default:"0" min:"0" max:"65535"`
	MaxConnections int    `toml:"max_connections" default:"100000" min:"0" max:"10000000"`
	Whereabouts    string `toml:"whereabouts" default:"route" oneof:"route|redis"`
	ServerListen   string `toml:"server_listen" default:"auto" form:"internal"`

	WebSocketListen  string   `toml:"websocket_listen" default:"off" form:"listen"`
	WebSocketOrigins []string `toml:"websocket_origins" default:"" form:"origins"`

	WebSocketLogin time.Duration `toml:"websocket_login_deadline" default:"10m" min:"1s" max:"24h"`

	DevicePolicy string `toml:"device_policy" default:"device_class" oneof:"device_policies"`

	Ack            string        `toml:"ack" default:"delivered" oneof:"delivered|stored"`
	AckWait        time.Duration `toml:"ack_wait" default:"2s" min:"10ms" max:"1m"`
	RedeliverAfter time.Duration `toml:"redeliver_after" default:"15s" min:"0s" max:"10m"`
	ResendWindow   time.Duration `toml:"resend_window" default:"60s" min:"0s" max:"1h"`
	Release        time.Duration `toml:"release" default:"5s" min:"0s" max:"1h"`
	Hold           time.Duration `toml:"hold" default:"5s" min:"0s" max:"60s"`
	Rate           float64       `toml:"rate" default:"20" min:"0" max:"1000000"`
	RateBurst      int           `toml:"rate_burst" default:"20" min:"1" max:"1000000"`
	Presence       string        `toml:"presence" default:"auto" oneof:"auto|all|contacts|none"`
	PresenceWindow time.Duration `toml:"presence_window" default:"100ms" min:"0s" max:"10s"`

	MaxFrame      Size          `toml:"max_frame" default:"1088KiB" min:"1KiB" max:"64MiB"`
	SlowConsumer  Size          `toml:"slow_consumer" default:"1MiB" min:"64KiB" max:"1GiB"`
	LoginDeadline time.Duration `toml:"login_deadline" default:"15s" min:"100ms" max:"1h"`
	PCTimeout     time.Duration `toml:"pc_timeout" default:"120s" min:"1s" max:"24h"`
	MobileTimeout time.Duration `toml:"mobile_timeout" default:"300s" min:"1s" max:"24h"`

	DBProxy            []string `toml:"dbproxy" default:"" form:"addrs"`
	Route              []string `toml:"route" default:"" form:"addrs"`
	Login              []string `toml:"login" default:"" form:"addrs"`
	Push               []string `toml:"push" default:"" form:"addrs"`
	File               []string `toml:"file" default:"" form:"addrs"`
	RequireCipher      bool     `toml:"require_cipher" default:"false"`
	PushText           int      `toml:"push_text" default:"40" min:"0" max:"1000"`
	DBProxyConnections int      `toml:"dbproxy_connections" default:"2" min:"1" max:"64"`
}

// Route is the section route.
type Route struct {
	Listen string `toml:"listen" default:"auto" form:"internal"`
	Flood  bool   `toml:"flood" default:"false"`
}

// DBProxy is the section dbproxy.
type DBProxy struct {
	Listen            string        `toml:"listen" default:"auto" form:"internal"`
	MessageShards     int           `toml:"message_shards" default:"0" min:"0" max:"256"`
	Queue             int           `toml:"queue" default:"0" min:"0" max:"16777216"`
	SessionSync       time.Duration `toml:"session_sync" default:"5s" min:"100ms" max:"1h"`
	MSFS              string        `toml:"msfs" default:"" form:"url"`
	HistoryLimit      int           `toml:"history_limit" default:"100" min:"1" max:"10000"`
	LoginLockAttempts int           `toml:"login_lock_attempts" default:"10" min:"0" max:"1000"`
	FileExpiry        time.Duration `toml:"file_expiry" default:"720h" min:"0s" max:"87600h"`
	LoginLockWindow   time.Duration `toml:"login_lock_window" default:"30m" min:"1s" max:"24h"`

	LoginLockNetwork int           `toml:"login_lock_network" default:"100" min:"0" max:"1000"`
	LoginLockName    int           `toml:"login_lock_name" default:"100" min:"0" max:"500"`
	LoginKnown       time.Duration `toml:"login_known" default:"2160h" min:"1s" max:"17520h"`

	MessageExpiry      time.Duration `toml:"message_expiry" default:"0s" min:"0s" max:"438000h"`
	MessageExpiryHours string        `toml:"message_expiry_hours" default:"" form:"hours"`

	LoginNameWindow time.Duration `toml:"login_lock_name_window" default:"24h" min:"1s" max:"240h"`

	GroupCreations int `toml:"group_creations" default:"60" min:"0" max:"1000000"`
	GroupAdds      int `toml:"group_adds" default:"20000" min:"0" max:"1000000"`
	GroupGains     int `toml:"group_gains" default:"200" min:"0" max:"1000000"`

	GroupMemberships int           `toml:"group_memberships" default:"2000" min:"0" max:"1000000"`
	GroupLeft        time.Duration `toml:"group_left" default:"720h" min:"0s" max:"87600h"`
}

// TicketsRequired is the value of msfs.tickets with which uploads need a ticket.
const TicketsRequired = "required"

// MSFS is the section msfs.
type MSFS struct {
	Listen         string `toml:"listen" default:":8700" form:"listen"`
	URL            string `toml:"url" default:"" form:"url"`
	Dir            string `toml:"dir" default:""`
	MaxSize        Size   `toml:"max_size" default:"10MiB" min:"1KiB" max:"1GiB"`
	MaxUploads     int    `toml:"max_uploads" default:"64" min:"1" max:"100000"`
	MaxConnections int    `toml:"max_connections" default:"10000" min:"1" max:"10000000"`
	UploadRate     Size   `toml:"upload_rate" default:"2MiB" min:"0B" max:"1024GiB"`
	UploadBurst    Size   `toml:"upload_burst" default:"1GiB" min:"1KiB" max:"1024GiB"`
	Tickets        string `toml:"tickets" default:"off" oneof:"off|optional|required"`
	TicketKey      Secret `toml:"ticket_key" default:"" form:"key"`
	Quota          Size   `toml:"quota" default:"0B" min:"0B" max:"1048576GiB"`
	MinFree        Size   `toml:"min_free" default:"1GiB" min:"0B" max:"1024GiB"`

	ExpireAfter       time.Duration `toml:"expire_after" default:"0s" min:"0s" max:"876000h"`
	ExpireUnusedAfter time.Duration `toml:"expire_unused_after" default:"0s" min:"0s" max:"876000h"`

	ScaledCache Size   `toml:"scaled_cache" default:"64MiB" min:"0B" max:"64GiB"`
	ScalePixels int    `toml:"scale_pixels" default:"12500000" min:"1" max:"1000000000"`
	S3Endpoint  string `toml:"s3_endpoint" default:""`
	S3Bucket    string `toml:"s3_bucket" default:""`
	S3Prefix    string `toml:"s3_prefix" default:""`
	S3Region    string `toml:"s3_region" default:""`
	S3AccessKey string `toml:"s3_access_key" default:""`
	S3SecretKey Secret `toml:"s3_secret_key" default:""`
	S3Plain     bool   `toml:"s3_plain" default:"false"`
}

// File is the section file.
type File struct {
	Listen         string        `toml:"listen" default:":8600" form:"listen"`
	AdvertiseIP    string        `toml:"advertise_ip" default:"" form:"host"`
	AdvertisePort  int           `toml:"advertise_port" default:"0" min:"0" max:"65535"`
	ServerListen   string        `toml:"server_listen" default:"auto" form:"internal"`
	Route          []string      `toml:"route" default:"" form:"addrs"`
	CheckOnline    string        `toml:"check_online" default:"auto" oneof:"auto|on|off"`
	DBProxy        []string      `toml:"dbproxy" default:"" form:"addrs"`
	Compare        time.Duration `toml:"compare" default:"10m" min:"0s" max:"24h"`
	CompareGrace   time.Duration `toml:"compare_grace" default:"10m" min:"0s" max:"24h"`
	Dir            string        `toml:"dir" default:""`
	Workers        int           `toml:"workers" default:"8" min:"1" max:"1024"`
	MaxConnections int           `toml:"max_connections" default:"10000" min:"1" max:"10000000"`
	MaxTasks       int           `toml:"max_tasks" default:"50000" min:"1" max:"10000000"`
	MaxUserTasks   int           `toml:"max_user_tasks" default:"200" min:"1" max:"10000000"`
	Quota          Size          `toml:"quota" default:"8GiB" min:"1MiB" max:"1048576GiB"`
	MinFree        Size          `toml:"min_free" default:"1GiB" min:"0B" max:"1024GiB"`
	KeepUnfinished time.Duration `toml:"keep_unfinished" default:"168h" min:"1s" max:"87600h"`
	KeepWaiting    time.Duration `toml:"keep_waiting" default:"720h" min:"1s" max:"87600h"`
	KeepFetched    time.Duration `toml:"keep_fetched" default:"24h" min:"0s" max:"87600h"`
	UploadWindow   int           `toml:"upload_window" default:"8" min:"1" max:"64"`
	LoginDeadline  time.Duration `toml:"login_deadline" default:"15s" min:"100ms" max:"1h"`
	IdleTimeout    time.Duration `toml:"idle_timeout" default:"120s" min:"1s" max:"24h"`
}

// HTTP is the section http.
type HTTP struct {
	Listen         string   `toml:"listen" default:":8400" form:"listen"`
	URL            string   `toml:"url" default:"" form:"url"`
	MaxConnections int      `toml:"max_connections" default:"10000" min:"1" max:"10000000"`
	AppsFile       string   `toml:"apps_file" default:"" holds:"keys of systems or invite codes"`
	DBProxy        []string `toml:"dbproxy" default:"" form:"addrs"`
	Route          []string `toml:"route" default:"" form:"addrs"`
	Push           []string `toml:"push" default:"" form:"addrs"`
	TrustedProxies []string `toml:"trusted_proxies" default:"" form:"cidr"`
	ClientHeader   string   `toml:"client_header" default:"x-forwarded-for" oneof:"client_headers"`
}

// Push is the section push.
type Push struct {
	Listen         string `toml:"listen" default:"auto" form:"internal"`
	APNsTopic      string `toml:"apns_topic" default:""`
	APNsKeyFile    string `toml:"apns_key_file" default:"" holds:"a private key"`
	APNsKeyID      string `toml:"apns_key_id" default:""`
	APNsTeamID     string `toml:"apns_team_id" default:""`
	APNsCertFile   string `toml:"apns_cert_file" default:"" holds:"a private key"`
	APNsPassword   Secret `toml:"apns_cert_password" default:""`
	APNsSandbox    bool   `toml:"apns_sandbox" default:"false"`
	APNsURL        string `toml:"apns_url" default:"" form:"url"`
	FCMCredentials string `toml:"fcm_credentials" default:"" holds:"a private key"`
	FCMURL         string `toml:"fcm_url" default:"" form:"url"`
	Queue          int    `toml:"queue" default:"20000" min:"1" max:"10000000"`
	Workers        int    `toml:"workers" default:"32" min:"1" max:"10000"`
	Attempts       int    `toml:"attempts" default:"5" min:"1" max:"100"`
}

// Strangers is the section strangers.
type Strangers struct {
	PerAddress int      `toml:"per_address" default:"1000" min:"0" max:"10000000"`
	Rate       float64  `toml:"rate" default:"200" min:"0" max:"1000000"`
	Burst      int      `toml:"burst" default:"2000" min:"1" max:"10000000"`
	Reserved   int      `toml:"reserved" default:"25" min:"1" max:"90"`
	Memory     Size     `toml:"memory" default:"64MiB" min:"1MiB" max:"64GiB"`
	Trusted    []string `toml:"trusted_networks" default:"127.0.0.0/8,::1/128" form:"cidr"`
}

// Proxy is the section proxy.
type Proxy struct {
	Networks []string `toml:"networks" default:"" form:"cidr"`
}

// TLS is the section tls.
type TLS struct {
	Certificate   string   `toml:"certificate" default:""`
	Key           string   `toml:"key" default:"" holds:"a private key"`
	MinVersion    string   `toml:"min_version" default:"1.2" oneof:"1.2|1.3"`
	PlainNetworks []string `toml:"plain_networks" default:"0.0.0.0/0,::/0" form:"cidr"`

	ACME ACME `toml:"acme"`
}

// ACME is the section tls.acme.
type ACME struct {
	Domains     []string `toml:"domains" default:"" form:"domains"`
	Email       string   `toml:"email" default:""`
	DirectoryCA string   `toml:"directory_ca" default:""`
	AgreeTOS    bool     `toml:"agree_tos" default:"false"`
	Folder      string   `toml:"folder" default:""`
	Challenge   string   `toml:"challenge" default:"http-01" oneof:"http-01|tls-alpn-01"`
	HTTPListen  string   `toml:"http_listen" default:":80" form:"listen"`

	Directory string `toml:"directory" form:"url" default:"https://acme-v02.api.letsencrypt.org/directory"`
}

// LinkTLS is the section link_tls.
type LinkTLS struct {
	CA           string `toml:"ca" default:""`
	Certificate  string `toml:"certificate" default:""`
	Key          string `toml:"key" default:"" holds:"a private key"`
	CPPPlaintext string `toml:"cpp_plaintext" default:"off" oneof:"off|accept|dial"`

	PlaintextBeyondLoopback bool `toml:"plaintext_beyond_loopback" default:"false"`
}

// Password is the section password.
type Password struct {
	KDF      string        `toml:"kdf" default:"md5" oneof:"md5|argon2id"`
	Memory   Size          `toml:"memory" default:"8MiB" min:"1MiB" max:"256MiB"`
	Passes   int           `toml:"passes" default:"2" min:"1" max:"64"`
	Workers  int           `toml:"workers" default:"0" min:"0" max:"1024"`
	Remember time.Duration `toml:"remember" default:"24h" min:"0s" max:"720h"`
}

// Audit is the section audit.
type Audit struct {
	File   string `toml:"file" default:""`
	Syslog string `toml:"syslog" default:"" form:"syslog"`
}

// Trace is the section trace.
type Trace struct {
	Endpoint WebURL  `toml:"endpoint" default:"" form:"url"`
	Ratio    float64 `toml:"ratio" default:"0.01" min:"0" max:"1"`
}

// AdminAPI is the section admin_api.
type AdminAPI struct {
	Listen   string `toml:"listen" default:"off" form:"listen"`
	Tokens   string `toml:"tokens" default:""`
	Messages bool   `toml:"messages" default:"false"`
}

// Link is the section link.
type Link struct {
	MaxFrame    Size          `toml:"max_frame" default:"64MiB" min:"1MiB" max:"1GiB"`
	MaxAnswer   Size          `toml:"max_answer" default:"256MiB" min:"1MiB" max:"1GiB"`
	Heartbeat   time.Duration `toml:"heartbeat" default:"5s" min:"100ms" max:"5m"`
	Timeout     time.Duration `toml:"timeout" default:"30s" min:"1s" max:"1h"`
	CallTimeout time.Duration `toml:"call_timeout" default:"10s" min:"100ms" max:"10m"`
	DialTimeout time.Duration `toml:"dial_timeout" default:"5s" min:"100ms" max:"1m"`
	BackoffMax  time.Duration `toml:"backoff_max" default:"64s" min:"1s" max:"1h"`
}

// MySQL is the section mysql.
type MySQL struct {
	Master      DSN           `toml:"master" default:"" form:"dsn"`
	Slave       DSN           `toml:"slave" default:"" form:"dsn"`
	ReplicaWait time.Duration `toml:"replica_wait" default:"50ms" min:"1ms" max:"10s"`
	CA          string        `toml:"ca" default:""`
	Certificate string        `toml:"certificate" default:""`
	Key         string        `toml:"key" default:"" holds:"a private key"`
}

// Redis is the section redis. Unread counts, group settings, push tokens, sync marks and
// group members are five logical instances (see Target). Usually one Redis serves all
// five.
type Redis struct {
	Addrs            []string `toml:"addrs" default:"127.0.0.1:6379" form:"addrs"`
	Username         string   `toml:"username" default:""`
	Password         Secret   `toml:"password" default:""`
	DB               int      `toml:"db" default:"0" min:"0" max:"65535"`
	TLS              bool     `toml:"tls" default:"false"`
	CA               string   `toml:"ca" default:""`
	Certificate      string   `toml:"certificate" default:""`
	Key              string   `toml:"key" default:"" holds:"a private key"`
	Cluster          bool     `toml:"cluster" default:"false"`
	Sentinels        []string `toml:"sentinels" default:"" form:"addrs"`
	MasterName       string   `toml:"master_name" default:"mymaster"`
	SentinelUsername string   `toml:"sentinel_username" default:""`
	SentinelPassword Secret   `toml:"sentinel_password" default:""`
	Unread           RedisURL `toml:"unread" default:"" form:"redis"`
	GroupSet         RedisURL `toml:"group_set" default:"" form:"redis"`
	Token            RedisURL `toml:"token" default:"" form:"redis"`
	Sync             RedisURL `toml:"sync" default:"" form:"redis"`
	GroupMember      RedisURL `toml:"group_member" default:"" form:"redis"`
}

// Keys is the section keys.
type Keys struct {
	Text Secret `toml:"text_key" default:"12345678901234567890123456789012" form:"key32"`
}
