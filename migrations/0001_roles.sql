-- The roles of the system. They are shared by every database of a cluster, so they may exist already.
--
-- clicknback_api     answers HTTP: takes deliveries in and applies them
-- clicknback_worker  confirms, matures, pays, mails; dispatch runs as this role too
-- clicknback_keeper  retention: the only role that may delete evidence
--
-- The owner is whoever runs the migrations. None of the three can log in until
-- `clicknback migrate` gives them a password (see docs/OPERATIONS.md).
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['clicknback_api', 'clicknback_worker', 'clicknback_keeper'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database's migration made it at the same moment
        END;
    END LOOP;
END
$$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO clicknback_api, clicknback_worker, clicknback_keeper;
