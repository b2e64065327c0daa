-- IMUser.password may have the form of a KDF (setting password.kdf). The step changes nothing: by its number an older program, which would refuse
-- the logins of these users as wrong, does not open the file.

select 1;
