-- Accounts. The columns of the original that still make sense keep their names.
CREATE TABLE users (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Kept as typed; compared without regard to case. ASCII only, so lower() is the same under every collation.
    username      text        NOT NULL CONSTRAINT users_username_format CHECK (username ~ '^[A-Za-z0-9_.-]{3,64}$'),
    -- Argon2id, as a PHC string: it names its own parameters.
    password_hash text        NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX users_username_key ON users (lower(username));
