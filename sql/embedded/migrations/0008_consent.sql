-- Users that left a group by themselves: other members do not add such a user again for some time. A row is removed when the user is a member again.
-- And the user that added a member: memberships from others are bounded.

create table IMGroupDeparture (
	groupId integer not null,
	userId  integer not null,
	leftAt  integer not null, -- time of leaving
	primary key (groupId, userId)
) strict, without rowid;

alter table IMGroupMember add column addedBy integer not null default 0; -- a user; 0: itself, an administrator or another system
