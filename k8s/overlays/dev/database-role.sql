-- For psql, as the superuser of a Postgres container: makes the role of the api replicas, or gives the one that is there its
-- password, which is in the file ROLE_PASSWORD_FILE. It can log in and nothing more: its rights to tables come from
-- `gatefold-api migrate`. Repeatable. k8s/overlays/dev has a copy.
\set ON_ERROR_STOP on
\set password `cat "$ROLE_PASSWORD_FILE"`
-- It belongs in no log of the server.
SET log_statement = none;
SET log_min_duration_statement = -1;
SET log_min_error_statement = panic;
SELECT 'CREATE ROLE gatefold_api' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gatefold_api') \gexec
ALTER ROLE gatefold_api LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'password';
