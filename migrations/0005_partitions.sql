-- The lowest UUIDv7 of a moment (RFC 9562 §5.7: the first 48 bits are Unix milliseconds).
-- Evidence is partitioned by id, so a look-up by id touches one partition.
CREATE FUNCTION uuid_at(moment timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT rpad(lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;

-- Makes the monthly partitions of all partitioned tables from last month to `ahead` months from now.
-- Runs as the owner, so that dispatch may call it without the right to create tables.
CREATE FUNCTION ensure_partitions(ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    parent record;
    month  timestamptz;
    child  text;
    made   integer := 0;
BEGIN
    IF ahead NOT BETWEEN 0 AND 24 THEN
        RAISE EXCEPTION 'ensure_partitions: % months ahead, expected 0 to 24', ahead;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('ensure_partitions'));
    FOR parent IN
        SELECT c.relname AS name, format_type(a.atttypid, NULL) AS key_type
        FROM pg_partitioned_table p
        JOIN pg_class c ON c.oid = p.partrelid
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
        WHERE c.relnamespace = 'public'::regnamespace
    LOOP
        FOR i IN -1 .. ahead LOOP
            month := date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + make_interval(months => i);
            child := parent.name || '_' || to_char(month AT TIME ZONE 'UTC', 'YYYYMM');
            IF to_regclass('public.' || child) IS NULL THEN
                IF parent.key_type = 'uuid' THEN
                    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                        child, parent.name, uuid_at(month), uuid_at(month + interval '1 month'));
                ELSE
                    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                        child, parent.name, month, month + interval '1 month');
                END IF;
                made := made + 1;
            END IF;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;
REVOKE ALL ON FUNCTION ensure_partitions(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_partitions(integer) TO clicknback_worker, clicknback_keeper;
