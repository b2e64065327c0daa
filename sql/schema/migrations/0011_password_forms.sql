-- Room for a password in the form of a KDF (setting password.kdf), which is longer than md5. C++ servers read and write the
-- column as before.

ALTER TABLE IMUser MODIFY COLUMN password VARCHAR(128) NOT NULL DEFAULT '';
