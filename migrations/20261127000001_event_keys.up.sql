-- Which event a row is, from when it was made: whoever was not told that it is written writes it again, and it stays one.
-- Rows from before have none, and so have those of replicas of the version before.
ALTER TABLE events ADD COLUMN key uuid;

CREATE UNIQUE INDEX events_key_key ON events (key) WHERE key IS NOT NULL;
