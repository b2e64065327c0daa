-- The tables of the first implementation, names and meanings as its servers know them. On an existing deployment they are
-- there, and every statement is passed over. Its index names stay too: C++ servers name some of them in FORCE INDEX.

CREATE TABLE IMUser (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  sex TINYINT UNSIGNED NOT NULL DEFAULT 0,
  name VARCHAR(32) NOT NULL DEFAULT '',
  domain VARCHAR(32) NOT NULL DEFAULT '',
  nick VARCHAR(32) NOT NULL DEFAULT '',
  password VARCHAR(32) NOT NULL DEFAULT '',
  salt VARCHAR(4) NOT NULL DEFAULT '',
  phone VARCHAR(11) NOT NULL DEFAULT '',
  email VARCHAR(64) NOT NULL DEFAULT '',
  avatar VARCHAR(255) DEFAULT '',
  departId INT UNSIGNED NOT NULL,
  status TINYINT UNSIGNED DEFAULT 0,
  created INT UNSIGNED NOT NULL,
  updated INT UNSIGNED NOT NULL,
  push_shield_status TINYINT UNSIGNED NOT NULL DEFAULT 0,
  sign_info VARCHAR(128) NOT NULL DEFAULT '',
  PRIMARY KEY (id),
  KEY idx_domain (domain),
  KEY idx_name (name),
  KEY idx_phone (phone)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IMDepart (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  departName VARCHAR(64) NOT NULL DEFAULT '',
  priority INT UNSIGNED NOT NULL DEFAULT 0,
  parentId INT UNSIGNED NOT NULL,
  status INT UNSIGNED NOT NULL DEFAULT 0,
  created INT UNSIGNED NOT NULL,
  updated INT UNSIGNED NOT NULL,
  PRIMARY KEY (id),
  KEY idx_departName (departName),
  KEY idx_priority_status (priority, status)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IMRelationShip (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  smallId INT UNSIGNED NOT NULL,
  bigId INT UNSIGNED NOT NULL,
  status TINYINT UNSIGNED DEFAULT 0,
  created INT UNSIGNED NOT NULL DEFAULT 0,
  updated INT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (id),
  KEY idx_smallId_bigId_status_updated (smallId, bigId, status, updated)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IMMessage_{n} (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  relateId INT UNSIGNED NOT NULL,
  fromId INT UNSIGNED NOT NULL,
  toId INT UNSIGNED NOT NULL,
  msgId INT UNSIGNED NOT NULL,
  content VARCHAR(4096) DEFAULT '',
  type TINYINT UNSIGNED NOT NULL DEFAULT 1,
  status TINYINT UNSIGNED NOT NULL DEFAULT 0,
  updated INT UNSIGNED NOT NULL,
  created INT UNSIGNED NOT NULL,
  PRIMARY KEY (id),
  KEY idx_relateId_status_created (relateId, status, created),
  KEY idx_relateId_status_msgId_created (relateId, status, msgId, created),
  KEY idx_fromId_toId_created (fromId, toId, status)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IMGroup (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  name VARCHAR(256) NOT NULL DEFAULT '',
  avatar VARCHAR(256) NOT NULL DEFAULT '',
  creator INT UNSIGNED NOT NULL DEFAULT 0,
  type TINYINT UNSIGNED NOT NULL DEFAULT 1,
  userCnt INT UNSIGNED NOT NULL DEFAULT 0,
  status TINYINT UNSIGNED NOT NULL DEFAULT 1,
  version INT UNSIGNED NOT NULL DEFAULT 1,
  lastChated INT UNSIGNED NOT NULL DEFAULT 0,
  updated INT UNSIGNED NOT NULL DEFAULT 0,
  created INT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (id),
  KEY idx_name (name(191)),
  KEY idx_creator (creator)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IMGroupMember (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  groupId INT UNSIGNED NOT NULL,
  userId INT UNSIGNED NOT NULL,
  status TINYINT UNSIGNED NOT NULL DEFAULT 1,
  created INT UNSIGNED NOT NULL DEFAULT 0,
  updated INT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (id),
  KEY idx_groupId_userId_status (groupId, userId, status),
  KEY idx_userId_status_updated (userId, status, updated),
  KEY idx_groupId_updated (groupId, updated)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IMGroupMessage_{n} (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  groupId INT UNSIGNED NOT NULL,
  userId INT UNSIGNED NOT NULL,
  msgId INT UNSIGNED NOT NULL,
  content VARCHAR(4096) NOT NULL DEFAULT '',
  type TINYINT UNSIGNED NOT NULL DEFAULT 2,
  status INT UNSIGNED NOT NULL DEFAULT 0,
  updated INT UNSIGNED NOT NULL DEFAULT 0,
  created INT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (id),
  KEY idx_groupId_status_created (groupId, status, created),
  KEY idx_groupId_msgId_status_created (groupId, msgId, status, created)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IMRecentSession (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  userId INT UNSIGNED NOT NULL,
  peerId INT UNSIGNED NOT NULL,
  type TINYINT UNSIGNED DEFAULT 0,
  status TINYINT UNSIGNED DEFAULT 0,
  created INT UNSIGNED NOT NULL DEFAULT 0,
  updated INT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (id),
  KEY idx_userId_peerId_status_updated (userId, peerId, status, updated),
  KEY idx_userId_peerId_type (userId, peerId, type)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IMAudio (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  fromId INT UNSIGNED NOT NULL,
  toId INT UNSIGNED NOT NULL,
  path VARCHAR(255) DEFAULT '',
  size INT UNSIGNED NOT NULL DEFAULT 0,
  duration INT UNSIGNED NOT NULL DEFAULT 0,
  created INT UNSIGNED NOT NULL,
  PRIMARY KEY (id),
  KEY idx_fromId_toId (fromId, toId)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IMTransmitFile (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  fromId INT UNSIGNED NOT NULL,
  toId INT UNSIGNED NOT NULL,
  fileName VARCHAR(255) NOT NULL DEFAULT '',
  size INT UNSIGNED NOT NULL DEFAULT 0,
  taskId VARCHAR(64) NOT NULL DEFAULT '',
  status TINYINT UNSIGNED NOT NULL DEFAULT 0,
  created INT UNSIGNED NOT NULL,
  updated INT UNSIGNED NOT NULL,
  PRIMARY KEY (id),
  KEY idx_taskId (taskId),
  KEY idx_toId_status (toId, status)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IMAdmin (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  uname VARCHAR(40) NOT NULL,
  pwd CHAR(32) NOT NULL,
  status TINYINT UNSIGNED NOT NULL DEFAULT 0,
  created INT UNSIGNED NOT NULL DEFAULT 0,
  updated INT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IMDiscovery (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  itemName VARCHAR(64) NOT NULL DEFAULT '',
  itemUrl VARCHAR(64) NOT NULL DEFAULT '',
  itemPriority INT UNSIGNED NOT NULL,
  status INT UNSIGNED NOT NULL DEFAULT 0,
  created INT UNSIGNED NOT NULL,
  updated INT UNSIGNED NOT NULL,
  PRIMARY KEY (id),
  KEY idx_itemName (itemName)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
