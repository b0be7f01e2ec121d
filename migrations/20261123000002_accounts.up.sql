-- What an account needs beyond logging in.
ALTER TABLE users
    ADD COLUMN disabled_at timestamptz,
    -- Counts what makes earlier log-ins worthless (a new password, being disabled): a log-in that was under way meanwhile
    -- notices that it has changed.
    ADD COLUMN security_version integer NOT NULL DEFAULT 0;

-- What happened to accounts and sessions. Users see their own; it outlives them.
CREATE TABLE events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL,
    kind       text        NOT NULL,
    user_id    bigint,
    family     uuid,
    address    inet,
    user_agent text,
    details    jsonb       NOT NULL DEFAULT '{}'
);

CREATE INDEX events_user_key ON events (user_id, id DESC);
CREATE INDEX events_at_key ON events (at);

-- Append-only, so that whoever breaks in cannot tidy up by accident of privilege. Erasing (retention, a person's right to it)
-- is a deliberate act: SET LOCAL gatefold.erasing = 'on'.
CREATE FUNCTION events_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('gatefold.erasing', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'events are append-only';
END
$$;

CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION events_are_append_only();
