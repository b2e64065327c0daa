-- The marks of a key by age. Without it each wrong password sorted all marks of its network.

create index LoginMark_age on LoginMark (kind, key, at desc, value);
