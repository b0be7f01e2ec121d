-- Gives the role named by the setting gatefold.replica_role the rights that the queries of the replicas and of everyday
-- administration need, and takes away all others. Run by the owner of the schema, who need not be a superuser.
--
--   events            only added to and read: no UPDATE, no DELETE
--   grants            granted and revoked
--   every other table SELECT, INSERT, UPDATE. Users are deleted by the owner
DO $$
DECLARE
    role text := current_setting('gatefold.replica_role');
    relation record;
    rights text;
BEGIN
    -- Two at once would be in each other's way.
    PERFORM pg_advisory_xact_lock(hashtext('gatefold.privileges'));
    FOR relation IN
        SELECT oid::regclass AS name, relname, relkind FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p', 'S')
            AND pg_has_role(relowner, 'USAGE')
            -- Of extensions.
            AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
    LOOP
        rights := CASE
            WHEN relation.relname = '_sqlx_migrations' THEN NULL
            WHEN relation.relkind = 'S' THEN NULL -- identity columns need none
            WHEN relation.relname = 'events' THEN 'SELECT, INSERT'
            WHEN relation.relname = 'grants' THEN 'SELECT, INSERT, DELETE'
            ELSE 'SELECT, INSERT, UPDATE'
        END;
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, %I', relation.name, role);
        IF rights IS NOT NULL THEN
            EXECUTE format('GRANT %s ON %s TO %I', rights, relation.name, role);
        END IF;
    END LOOP;
    -- Where the schema or the database is somebody else's, these only warn.
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC, %I', current_schema(), role);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), role);
    EXECUTE format('REVOKE CREATE, TEMPORARY ON DATABASE %I FROM PUBLIC, %I', current_database(), role);
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
END
$$;
