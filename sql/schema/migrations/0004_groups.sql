-- Groups. A client_msg_id to a group is another one than to the user of the same number: rows from before are of users, and a db_proxy of the version
-- before goes on to read and write those. removedMsgId is the id of a group's last message when its session was removed, so that the synchronisation of
-- members' sessions can tell a message that came after the removal from one before; 0 is not known, as after a removal by a C++ server.
-- Its groups are those that had messages lately.

ALTER TABLE IMClientMsgId ADD COLUMN toType TINYINT UNSIGNED NOT NULL DEFAULT 1, DROP PRIMARY KEY, ADD PRIMARY KEY (fromId, toId, clientMsgId, toType);
ALTER TABLE IMRecentSession ADD COLUMN removedMsgId INT UNSIGNED NOT NULL DEFAULT 0;
ALTER TABLE IMGroup ADD INDEX idx_lastChated (lastChated);
