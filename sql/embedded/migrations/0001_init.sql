-- Names and meanings follow the MySQL schema, so that moving there is copying columns. What differs: all messages are in one table,
-- and a conversation's row carries what MySQL keeps in IMRecentSession (both sides) and Redis in msg_id_<relation> and unread_<user>.
-- Times are unix seconds.

create table IMUser (
	id                 integer primary key autoincrement, -- never given again, whatever happens to the row
	nameKey            text    not null unique,           -- name, folded: names are compared without regard to case
	name               text    not null,
	domain             text    not null,
	nick               text    not null,
	sex                integer not null,
	password           text    not null,
	salt               text    not null,
	phone              text    not null,
	email              text    not null,
	avatar             text    not null,
	departId           integer not null,
	status             integer not null,
	push_shield_status integer not null,
	sign_info          text    not null,
	created            integer not null,
	updated            integer not null
) strict;
create index IMUser_updated on IMUser (updated);

-- One row per pair of users that have exchanged a message. The indexes hold nothing that a message changes.
create table IMRelationShip (
	id          integer primary key autoincrement,
	smallId     integer not null,
	bigId       integer not null,
	lastMsgId   integer not null, -- the newest message's id, which is also the last id given
	unreadSmall integer not null, -- messages to smallId that it has not read
	unreadBig   integer not null,
	statusSmall integer not null default 0, -- of smallId's entry in its list of conversations: 0 there, 1 removed
	statusBig   integer not null default 0,
	created     integer not null,
	updated     integer not null, -- time of the last message
	unique (smallId, bigId)
) strict;
create index IMRelationShip_big on IMRelationShip (bigId);

-- id = relation << 32 | message id: a conversation's messages are neighbours, in order, and the table needs no index beside itself.
create table IMMessage (
	id      integer primary key,
	fromId  integer not null, -- toId is the other one of the relation
	type    integer not null,
	status  integer not null default 0, -- 0 there, 1 deleted
	created integer not null,
	content blob    not null
) strict;

-- The client_msg_ids of the last 24 hours. Rows are in order of time, because ids are: the oldest are deleted from the left.
create table ClientMessage (
	id       integer primary key,
	relateId integer not null,
	fromId   integer not null,
	clientId blob    not null,
	msgId    integer not null,
	created  integer not null,
	unique (relateId, fromId, clientId)
) strict;
