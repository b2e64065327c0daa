-- Groups, and audio messages of both kinds. Names and meanings follow the MySQL schema; what Redis keeps of groups (counts, members, ids) is
-- in the rows here. ClientMessage.relateId of a message to a group is minus the group's id.

create table IMGroup (
	id         integer primary key autoincrement,
	name       text    not null,
	avatar     text    not null,
	creator    integer not null,
	type       integer not null, -- 1 normal, 2 temporary
	version    integer not null, -- one more with every change of name or members
	lastMsgId  integer not null, -- the newest message's id, which is also the number of messages
	lastChated integer not null, -- time of the newest message
	created    integer not null,
	updated    integer not null  -- time of the last change of name or members
) strict;

-- Who is in a group now. Who leaves has no row; who comes back begins anew. Neither the key nor the index holds anything that a message changes.
create table IMGroupMember (
	groupId     integer not null,
	userId      integer not null,
	joinMsgId   integer not null, -- the group's newest message when the member joined: what is later may be read
	readMsgId   integer not null, -- the newest message read; unread is the group's lastMsgId less this
	removeMsgId integer not null default 0, -- the newest message when the member removed the group's session: it is back with the next
	created     integer not null, -- time of joining
	primary key (groupId, userId)
) strict, without rowid;
create index IMGroupMember_user on IMGroupMember (userId);

-- id = group << 32 | message id, as in IMMessage.
create table IMGroupMessage (
	id      integer primary key,
	userId  integer not null,
	type    integer not null,
	status  integer not null default 0, -- 0 there, 1 deleted
	created integer not null,
	content blob    not null
) strict;

-- The content of an audio message, of either kind, is the id here, in decimal.
create table IMAudio (
	id       integer primary key autoincrement,
	fromId   integer not null,
	toId     integer not null,
	path     text    not null,
	size     integer not null, -- bytes
	duration integer not null, -- seconds
	created  integer not null
) strict;
