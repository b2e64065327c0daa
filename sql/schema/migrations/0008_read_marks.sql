-- The last message that a user has read in a conversation, so that unread counts can be made again after Redis has lost them.
-- The row of user 0 has the time since when marks are stored.

CREATE TABLE IMReadMark (
  userId INT UNSIGNED NOT NULL,
  peerId INT UNSIGNED NOT NULL,
  type TINYINT UNSIGNED NOT NULL,
  msgId INT UNSIGNED NOT NULL,
  PRIMARY KEY (userId, peerId, type)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
