-- Names may be e-mail addresses. Every row satisfied the narrower rule, so none needs to be checked: NOT VALID saves the scan
-- that would hold up logins.
ALTER TABLE users
    DROP CONSTRAINT users_username_format,
    ADD CONSTRAINT users_username_format CHECK (username ~ '^[A-Za-z0-9_.@+-]{3,64}$') NOT VALID;

-- New names begin with a letter or a digit: one that is called --help is an option to every command that names it. This is a
-- trigger, because a constraint, NOT VALID or not, is checked at every change of a row: nobody who has such a name could be
-- disabled, or change their password.
CREATE FUNCTION users_check_new_name() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a username begins with a letter or a digit'
        USING ERRCODE = 'check_violation', CONSTRAINT = 'users_username_start', TABLE = 'users', SCHEMA = TG_TABLE_SCHEMA;
END
$$;

CREATE TRIGGER users_username_start BEFORE INSERT OR UPDATE OF username ON users
    FOR EACH ROW WHEN (NEW.username !~ '^[A-Za-z0-9]') EXECUTE FUNCTION users_check_new_name();
