-- What AppendMessages has committed and the tables by conversation do not have yet. A row is a batch, as package arrivals writes it. Batches are
-- added at the end, so they need few pages; the server moves their messages into the other tables later, many at a time, and deletes the row.

create table Arrived (
	id   integer primary key,
	list blob not null
) strict;
