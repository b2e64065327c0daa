-- What a message is recognised by when it is sent again, and what is owed to the unread counts of Redis. Tables of ours alone, so their
-- keys are unique from the start.

CREATE TABLE IMClientMsgId (
  fromId INT UNSIGNED NOT NULL,
  clientMsgId VARBINARY(64) NOT NULL,
  toId INT UNSIGNED NOT NULL,
  relateId INT UNSIGNED NOT NULL,
  msgId INT UNSIGNED NOT NULL,
  created INT UNSIGNED NOT NULL,
  PRIMARY KEY (fromId, toId, clientMsgId),
  KEY idx_created (created),
  KEY idx_relateId (relateId)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IMUnreadOutbox (
  owner BINARY(16) NOT NULL,
  seq BIGINT UNSIGNED NOT NULL,
  payload MEDIUMBLOB NOT NULL,
  created INT UNSIGNED NOT NULL,
  PRIMARY KEY (owner)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
