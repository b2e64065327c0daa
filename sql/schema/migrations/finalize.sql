-- The unique keys that finalize adds once the duplicates are gone.

ALTER TABLE IMRelationShip ADD UNIQUE INDEX uniq_smallId_bigId (smallId, bigId);
ALTER TABLE IMRecentSession ADD UNIQUE INDEX uniq_userId_peerId_type (userId, peerId, type);
ALTER TABLE IMMessage_{n} ADD UNIQUE INDEX uniq_relateId_msgId (relateId, msgId);
ALTER TABLE IMGroupMessage_{n} ADD UNIQUE INDEX uniq_groupId_msgId (groupId, msgId);
