-- Which private rooms a user may enter.
CREATE TABLE grants (
    user_id    bigint      NOT NULL REFERENCES users ON DELETE CASCADE,
    room       text        NOT NULL CONSTRAINT grants_room_format CHECK (room ~ '^private:[A-Za-z0-9_.:-]{1,120}$'),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, room)
);

-- Counts the changes of a user's grants, so that an older state of them never replaces a newer one elsewhere. Whoever
-- changes grants adds one in the same transaction.
ALTER TABLE users ADD COLUMN grants_version bigint NOT NULL DEFAULT 0;
