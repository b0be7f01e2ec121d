ALTER TABLE users DROP COLUMN grants_version;
DROP TABLE grants;
