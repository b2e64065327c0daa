-- Users that left a group by themselves, and the user that added a member. leftAt, the time of leaving, counts for a former member (status 1) when it is updated:
-- such a user is not added by other members again for some time. addedBy, a user, counts for a member when joinedAt is the time of joining:
-- memberships from others are bounded. A C++ server, or a server of the version before, does not set the two. It leaves old values in them, which
-- then do not count.

ALTER TABLE IMGroupMember ADD COLUMN leftAt INT UNSIGNED NOT NULL DEFAULT 0;
ALTER TABLE IMGroupMember ADD COLUMN addedBy INT UNSIGNED NOT NULL DEFAULT 0;
