-- The lives of the books. Transaction numbers belong to a cluster: when the books come to another one (a dump that was
-- restored), a new epoch begins, in which they go on above everything present.
CREATE TABLE audit_epochs (
    n                 integer PRIMARY KEY,
    system_identifier bigint NOT NULL,        -- the cluster's
    first_xact        xid8 NOT NULL,          -- rows below were there when it began
    xact_offset       bigint NOT NULL,        -- what is added to the cluster's transaction numbers
    reason            text NOT NULL,
    started_at        timestamptz NOT NULL,
    audited_at        timestamptz             -- when the whole audit of its beginning was done
);

CREATE FUNCTION cluster_identifier() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS 'SELECT system_identifier FROM pg_control_system()';

INSERT INTO audit_epochs (n, system_identifier, first_xact, xact_offset, reason, started_at, audited_at)
    VALUES (1, cluster_identifier(), '0', 0, 'the books are opened', now(), now());

-- Begins an epoch. Runs as the owner, for it changes what new rows get as their number. Waits for the transactions
-- that have written transfers or audit rows, so every row present is below first_xact and every later one is not.
-- Unless `forced`, only when the cluster is another one than that of the last epoch. Answers whether one began.
CREATE FUNCTION begin_epoch(forced boolean, why text, at timestamptz) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
DECLARE
    highest numeric;
    lowest  numeric;
    lift    numeric;
BEGIN
    LOCK TABLE audit_epochs IN EXCLUSIVE MODE;
    IF NOT forced AND (SELECT system_identifier = cluster_identifier() FROM audit_epochs ORDER BY n DESC LIMIT 1) THEN
        RETURN false;
    END IF;
    LOCK TABLE transfers, audit_log IN ACCESS EXCLUSIVE MODE;
    highest := greatest((SELECT xact::text::numeric FROM transfers ORDER BY xact DESC LIMIT 1),
                        (SELECT xact::text::numeric FROM audit_log ORDER BY xact DESC LIMIT 1), 0);
    -- The least number that a transaction under way may still write with.
    lowest := pg_snapshot_xmin(pg_current_snapshot())::text::numeric;
    lift := greatest(highest + 1 - lowest, 0);
    EXECUTE format('ALTER TABLE transfers ALTER xact SET DEFAULT (((pg_current_xact_id()::text::bigint) + %s)::text::xid8)', lift);
    EXECUTE format('ALTER TABLE audit_log ALTER xact SET DEFAULT (((pg_current_xact_id()::text::bigint) + %s)::text::xid8)', lift);
    INSERT INTO audit_epochs (n, system_identifier, first_xact, xact_offset, reason, started_at)
        SELECT max(n) + 1, cluster_identifier(), (highest + 1)::text::xid8, lift::bigint, why, at FROM audit_epochs;
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION cluster_identifier(), begin_epoch(boolean, text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cluster_identifier(), begin_epoch(boolean, text, timestamptz) TO clicknback_worker;
GRANT SELECT ON audit_epochs TO clicknback_api, clicknback_worker;
GRANT UPDATE (audited_at) ON audit_epochs TO clicknback_worker;
