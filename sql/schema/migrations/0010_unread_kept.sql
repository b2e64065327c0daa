-- The counts of the batches of the last minute. Redis may lose what it has acknowledged, when it restarts or a replica takes over:
-- these counts are then applied again.

CREATE TABLE IMUnreadKept (
  created INT UNSIGNED NOT NULL,
  owner BINARY(16) NOT NULL,
  seq BIGINT UNSIGNED NOT NULL,
  payload MEDIUMBLOB NOT NULL,
  PRIMARY KEY (created, owner, seq)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
