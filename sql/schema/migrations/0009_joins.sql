-- Where a member begins to see its group: at the message after joinMsgId, the group's highest message id when the member joined. The
-- clock of a message server gives the time of a message, so times do not decide this. joinMsgId counts when joinedAt is the time of joining, the
-- later of created and updated. A C++ server, or a server of the version before, that writes a member does not set the two, and the time of
-- joining decides for that member.

ALTER TABLE IMGroupMember ADD COLUMN joinMsgId INT UNSIGNED NOT NULL DEFAULT 0;
ALTER TABLE IMGroupMember ADD COLUMN joinedAt INT UNSIGNED NOT NULL DEFAULT 0;
