-- A user's events of one kind, newest first, without reading those of all other kinds.
CREATE INDEX events_user_kind_key ON events (user_id, kind, id DESC);
