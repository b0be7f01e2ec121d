-- Whoever makes earlier log-ins worthless (a new password, disabling, deletion) holds this lock until everybody sees it. A
-- log-in that has opened its session waits for the lock, and only then reads whether it still counts: the session of one
-- that was under way meanwhile would not be known to whoever has ended the others. It takes no lock on the row, which would
-- be written to disk, and refused by a standby. A trigger, so that it holds for changes by hand and by older replicas too.
CREATE FUNCTION lock_user_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('gatefold:user', OLD.id));
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER users_lock_change BEFORE UPDATE OF security_version, disabled_at OR DELETE ON users
    FOR EACH ROW EXECUTE FUNCTION lock_user_change();
