-- How long evidence and history are kept, and what removes them (docs/OPERATIONS.md, "What grows, and what is removed").
-- Whole months are dropped: a partition goes once it is older than its row here says.
CREATE TABLE retention (
    what   text PRIMARY KEY CHECK (what IN ('evidence', 'history')),
    months integer NOT NULL,     -- so many calendar months before the present one are kept
    least  integer NOT NULL,     -- no setting goes below
    CHECK (months BETWEEN least AND 1200)
);
INSERT INTO retention (what, months, least) VALUES
    ('evidence', 120, 24),       -- deliveries, reports
    ('history', 24, 3);          -- jobs_done, job_attempts
GRANT SELECT ON retention TO clicknback_api, clicknback_worker, clicknback_keeper;

-- The months that are over, the oldest first. Only partitions that ensure_partitions made, by name and by bounds.
CREATE FUNCTION retention_due() RETURNS TABLE (parent text, month text, since timestamptz, until timestamptz, bytes bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
    SELECT p.relname::text, c.relname::text, m.since, m.until, pg_total_relation_size(c.oid)
    FROM (VALUES ('evidence', 'deliveries'), ('evidence', 'reports'), ('history', 'job_attempts'), ('history', 'jobs_done'))
         AS kept (what, name)
    JOIN retention r ON r.what = kept.what
    JOIN pg_class p ON p.relname = kept.name AND p.relnamespace = 'public'::regnamespace
    JOIN pg_inherits i ON i.inhparent = p.oid
    JOIN pg_class c ON c.oid = i.inhrelid AND c.relname ~ ('^' || kept.name || '_[0-9]{6}$')
    CROSS JOIN LATERAL (SELECT to_timestamp(substring(c.relname FROM '_([0-9]{6})$'), 'YYYYMM') AS since) s
    CROSS JOIN LATERAL (SELECT s.since, s.since + interval '1 month' AS until) m
    WHERE m.until <= date_trunc('month', now()) - make_interval(months => r.months)
      AND pg_get_expr(c.relpartbound, c.oid) IN (
          format('FOR VALUES FROM (%L) TO (%L)', uuid_at(m.since), uuid_at(m.until)),
          format('FOR VALUES FROM (%L) TO (%L)', m.since, m.until))
    ORDER BY m.since, kept.what, kept.name
$$;

-- Drops one of them. What is still open stays: its rows move to the default partition, and their number is the answer.
--   deliveries, reports  of a purchase that is pending or on hold, of a report that waits, in quarantine
--   job_attempts         of a job that lives or is dead
-- DETACH … CONCURRENTLY cannot be had beside a default partition; so the lock is waited for a tenth of a second and held
-- for the catalogue's rows only. What is to stay is known before. Whoever calls tries again later.
CREATE FUNCTION drop_expired(expired text, record uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC' SET lock_timeout = '100ms' AS $$
DECLARE
    due    record;
    needed uuid[] := '{}';
    kept   bigint := 0;
BEGIN
    SELECT * INTO due FROM retention_due() d WHERE d.month = expired;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% is no month that is over', expired USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- One at a time, and not while partitions are made.
    PERFORM pg_advisory_xact_lock(hashtext('ensure_partitions'));
    IF due.parent IN ('deliveries', 'reports') THEN
        WITH open AS (
            SELECT id FROM purchases WHERE state = 'pending' AND created_at < due.until
            UNION SELECT subject_id FROM jobs WHERE kind IN ('purchases.confirm', 'cashback.mature')
            UNION SELECT subject_id FROM jobs_dead WHERE kind IN ('purchases.confirm', 'cashback.mature')
        ), said AS (
            SELECT r.id, r.delivery_id FROM open
            JOIN purchases p ON p.id = open.id AND p.created_at < due.until
            JOIN reports r ON r.network = p.network AND r.group_key = p.group_key
            UNION SELECT r.id, r.delivery_id FROM waiting_reports w JOIN reports r ON r.id = w.report_id
        ), stays AS (
            SELECT id FROM said WHERE due.parent = 'reports'
            UNION SELECT delivery_id FROM said WHERE due.parent = 'deliveries'
            UNION SELECT delivery_id FROM delivery_results WHERE due.parent = 'deliveries' AND answer = 'quarantined'
        )
        SELECT coalesce(array_agg(id), '{}') INTO needed FROM stays
        WHERE id >= uuid_at(due.since) AND id < uuid_at(due.until);
    ELSIF due.parent = 'job_attempts' THEN
        SELECT coalesce(array_agg(DISTINCT a.job_id), '{}') INTO needed FROM job_attempts a
        WHERE a.finished_at >= due.since AND a.finished_at < due.until
          AND (EXISTS (SELECT FROM jobs j WHERE j.id = a.job_id) OR EXISTS (SELECT FROM jobs_dead j WHERE j.id = a.job_id));
    END IF;
    IF cardinality(needed) > 10000 THEN
        RAISE EXCEPTION '% rows of % are still open', cardinality(needed), expired;
    END IF;
    EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', due.parent, expired);
    IF cardinality(needed) > 0 THEN
        EXECUTE format('INSERT INTO %I SELECT * FROM %I WHERE %I = ANY ($1)', due.parent, expired,
                       CASE due.parent WHEN 'job_attempts' THEN 'job_id' ELSE 'id' END) USING needed;
        GET DIAGNOSTICS kept = ROW_COUNT;
    END IF;
    EXECUTE format('DROP TABLE %I', expired);
    INSERT INTO audit_log (id, occurred_at, actor_type, action, resource_type, resource_id, outcome, details)
        VALUES (record, now(), 'system', 'RETENTION_APPLIED', due.parent, expired, 'success',
                jsonb_build_object('bytes', due.bytes, 'kept', kept));
    RETURN kept;
END
$$;

-- Removes at most `slice` rows of each table that has no partitions, and answers how many: results of deliveries that are
-- gone, and the digests that recognise bytes without a sender's id for fifteen minutes. A sender's own id is kept for good.
CREATE FUNCTION forget_expired(slice integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET timezone = 'UTC'
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    results bigint;
    digests bigint;
BEGIN
    WITH gone AS MATERIALIZED (
        SELECT r.delivery_id FROM delivery_results r
        WHERE r.delivery_id < (SELECT uuid_at(date_trunc('month', now()) - make_interval(months => months))
                               FROM retention WHERE what = 'evidence')
          AND NOT EXISTS (SELECT FROM deliveries d WHERE d.id = r.delivery_id)
        ORDER BY r.delivery_id LIMIT slice FOR UPDATE SKIP LOCKED)
    DELETE FROM delivery_results r USING gone WHERE r.delivery_id = gone.delivery_id;
    GET DIAGNOSTICS results = ROW_COUNT;
    -- `id:` sorts before: of the ids that are kept for good none is looked at. A day is far more than fifteen minutes,
    -- whatever the clocks of those who received them say.
    WITH gone AS MATERIALIZED (
        SELECT old.network, old.key FROM networks n CROSS JOIN LATERAL (
            SELECT k.network, k.key FROM delivery_keys k
            WHERE k.network = n.name AND k.key > 'j' AND k.key LIKE 'sha256:%' AND k.seen_at < now() - interval '1 day'
            LIMIT slice FOR UPDATE SKIP LOCKED) AS old
        LIMIT slice)
    DELETE FROM delivery_keys k USING gone WHERE k.network = gone.network AND k.key = gone.key;
    GET DIAGNOSTICS digests = ROW_COUNT;
    RETURN results + digests;
END
$$;

INSERT INTO cron (name, every_seconds, next_at) VALUES ('apply_retention', 3600, now());

-- The keeper deletes evidence by these functions only, and so nothing that is young or open; nobody else calls them.
REVOKE ALL ON deliveries, delivery_keys, delivery_results, reports, jobs_done, job_attempts, audit_log FROM clicknback_keeper;
REVOKE ALL ON FUNCTION retention_due(), drop_expired(text, uuid), forget_expired(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION retention_due() TO clicknback_api, clicknback_worker, clicknback_keeper;
GRANT EXECUTE ON FUNCTION drop_expired(text, uuid), forget_expired(integer) TO clicknback_keeper;
