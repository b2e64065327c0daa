-- Files that wait for their receivers at a file server.

create table IMTransmitFile (
	id       integer primary key autoincrement,
	fromId   integer not null,
	toId     integer not null,
	taskId   text    not null,
	fileName text    not null,
	size     integer not null, -- bytes
	status   integer not null, -- 0 waits, 1 deleted
	created  integer not null,
	updated  integer not null
) strict;
create unique index IMTransmitFile_task on IMTransmitFile (toId, fromId, taskId);
create index IMTransmitFile_waits on IMTransmitFile (toId, id) where status = 0;
create index IMTransmitFile_created on IMTransmitFile (created);
