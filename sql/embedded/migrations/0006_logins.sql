-- Wrong passwords and the networks of users' logins; see im.LoginStore. until is when the row expires.

create table LoginMark (
	kind  integer not null,
	key   text    not null,
	value blob    not null,
	at    integer not null,
	until integer not null,
	primary key (kind, key, value)
) strict, without rowid;
create index LoginMark_until on LoginMark (until);
