-- How the client numbered a message: the seq of its frame in the lower 16 bits, its client type above; 0 is not known, as for a message that a C++
-- db_proxy stored. By it a message is recognised that a client without client_msg_ids sends again on a new connection. The column has a default and
-- is the last one, so the server adds it without copying the table (MariaDB 10.3, MySQL 8.0.12).

ALTER TABLE IMMessage_{n} ADD COLUMN sentAs INT UNSIGNED NOT NULL DEFAULT 0;
ALTER TABLE IMGroupMessage_{n} ADD COLUMN sentAs INT UNSIGNED NOT NULL DEFAULT 0;
