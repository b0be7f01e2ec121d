-- The rights that the role $1 has, and a replica should not have.
SELECT what
FROM pg_roles AS role,
    LATERAL (VALUES
        (rolsuper, 'SUPERUSER'),
        (rolcreaterole, 'CREATEROLE'),
        (rolcreatedb, 'CREATEDB'),
        (pg_has_role(role.oid, (SELECT relowner FROM pg_class WHERE oid = 'events'::regclass), 'MEMBER'), 'the owner''s'),
        (has_table_privilege(role.oid, 'events', 'UPDATE, DELETE, TRUNCATE, TRIGGER'), 'changing events'),
        (has_schema_privilege(role.oid, current_schema(), 'CREATE'), 'CREATE in the schema'),
        (has_database_privilege(role.oid, current_database(), 'CREATE, TEMPORARY'), 'CREATE or TEMPORARY in the database')
    ) AS rights (has, what)
WHERE rolname = $1 AND has
