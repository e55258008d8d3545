-- Who claimed and who ended each job, noted by PostgreSQL itself. `process` is the application_name of the session
-- that did it (a worker's holds its process id), whatever the rows say: impersonation shows.
CREATE SCHEMA IF NOT EXISTS harness;
CREATE TABLE IF NOT EXISTS harness.claims (
    job     uuid NOT NULL,
    queue   text NOT NULL,
    fence   integer NOT NULL,
    worker  uuid NOT NULL,
    robbed  uuid,               -- who had it, when it was not free
    process text NOT NULL,
    at      timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS harness.ends (
    job     uuid NOT NULL,
    fence   integer NOT NULL,
    worker  uuid,
    how     text NOT NULL,      -- done, cancelled, dead, freed
    process text NOT NULL,
    at      timestamptz NOT NULL
);

CREATE OR REPLACE FUNCTION harness.note_changes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO harness.claims (job, queue, fence, worker, robbed, process, at)
        SELECT after.id, after.queue, after.fence, after.claimed_by, before.claimed_by,
               current_setting('application_name'), clock_timestamp()
        FROM after JOIN before USING (id)
        WHERE after.claimed_by IS NOT NULL
          AND (before.claimed_by IS DISTINCT FROM after.claimed_by OR before.fence <> after.fence);
    INSERT INTO harness.ends (job, fence, worker, how, process, at)
        SELECT before.id, before.fence, before.claimed_by, 'freed', current_setting('application_name'), clock_timestamp()
        FROM after JOIN before USING (id)
        WHERE before.claimed_by IS NOT NULL AND after.claimed_by IS NULL;
    RETURN NULL;
END
$$;
CREATE OR REPLACE FUNCTION harness.note_done() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO harness.ends (job, fence, worker, how, process, at)
        SELECT id, fence, worker, outcome, current_setting('application_name'), clock_timestamp() FROM new;
    RETURN NULL;
END
$$;
CREATE OR REPLACE FUNCTION harness.note_dead() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO harness.ends (job, fence, worker, how, process, at)
        SELECT id, fence, NULL, 'dead', current_setting('application_name'), clock_timestamp() FROM new;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER harness_changes AFTER UPDATE ON public.jobs
    REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION harness.note_changes();
CREATE OR REPLACE TRIGGER harness_done AFTER INSERT ON public.jobs_done
    REFERENCING NEW TABLE AS new FOR EACH STATEMENT EXECUTE FUNCTION harness.note_done();
CREATE OR REPLACE TRIGGER harness_dead AFTER INSERT ON public.jobs_dead
    REFERENCING NEW TABLE AS new FOR EACH STATEMENT EXECUTE FUNCTION harness.note_dead();
