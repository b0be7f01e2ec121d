-- Fails while there are names with @ or +: rename or delete them first, since the program before cannot let them in.
ALTER TABLE users
    DROP CONSTRAINT users_username_format,
    ADD CONSTRAINT users_username_format CHECK (username ~ '^[A-Za-z0-9_.-]{3,64}$');

DROP TRIGGER users_username_start ON users;
DROP FUNCTION users_check_new_name;
