DROP TABLE events;
DROP FUNCTION events_are_append_only;
ALTER TABLE users DROP COLUMN security_version, DROP COLUMN disabled_at;
