-- Indexes for the reads that clients cause and that the first implementation answered by scanning, and the login name without regard to case: a
-- column computed from the other, which C++ servers neither see nor write.

ALTER TABLE IMUser ADD COLUMN nameFold VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin GENERATED ALWAYS AS (LOWER(name)) VIRTUAL;
ALTER TABLE IMUser ADD INDEX idx_nameFold (nameFold);
ALTER TABLE IMUser ADD INDEX idx_updated (updated);
ALTER TABLE IMDepart ADD INDEX idx_updated (updated);
ALTER TABLE IMRecentSession ADD INDEX idx_userId_status_updated (userId, status, updated);
