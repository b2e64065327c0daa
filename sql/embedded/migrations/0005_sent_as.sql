-- How the client numbered a message: the seq of its frame in the lower 16 bits, its client type above; 0 is not known. By it a message is recognised
-- that a client without client_msg_ids sends again on a new connection.

alter table IMMessage add column sentAs integer not null default 0;
alter table IMGroupMessage add column sentAs integer not null default 0;
