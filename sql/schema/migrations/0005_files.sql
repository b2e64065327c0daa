-- Files that wait for their receivers. The first schema had names of 128 characters, and no index.

ALTER TABLE IMTransmitFile ADD INDEX idx_taskId (taskId);
ALTER TABLE IMTransmitFile ADD INDEX idx_toId_status (toId, status);
ALTER TABLE IMTransmitFile MODIFY COLUMN fileName VARCHAR(255) NOT NULL DEFAULT '';
