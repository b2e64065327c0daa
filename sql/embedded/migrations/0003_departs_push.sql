-- Departments, where pushes go, and who wants none. What MySQL deployments keep in Redis (device_<user>, device_<token>, group_set_<group>) has tables here.

create table IMDepart (
	id         integer primary key autoincrement,
	departName text    not null,
	priority   integer not null, -- lower is shown first
	parentId   integer not null, -- 0: the company
	status     integer not null, -- 0 there, 1 deleted
	created    integer not null,
	updated    integer not null
) strict;
create index IMDepart_updated on IMDepart (updated);

-- A phone has one user, a user one phone.
create table DeviceToken (
	userId integer primary key,
	client integer not null,       -- 17 ios, 18 android
	token  text    not null unique
) strict;

-- Who wants no pushes for a group has a row.
create table GroupShield (
	groupId integer not null,
	userId  integer not null,
	primary key (groupId, userId)
) strict, without rowid;
