-- Work that one process does at a time. Named locks hold on one node of a cluster only.

CREATE TABLE IMLease (
  name VARCHAR(64) NOT NULL,
  holder BINARY(16) NOT NULL,
  epoch BIGINT UNSIGNED NOT NULL,
  until INT UNSIGNED NOT NULL,
  PRIMARY KEY (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
