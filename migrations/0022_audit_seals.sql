-- The chain over transfers and audit rows: a seal covers the rows of whole transactions from from_xact up to but
-- without to_xact, each in the words of `sealed_rows`, and repeats the seal before it.
CREATE TABLE audit_seals (
    n         bigint PRIMARY KEY,
    epoch     integer NOT NULL REFERENCES audit_epochs,
    from_xact xid8 NOT NULL,
    to_xact   xid8 NOT NULL,
    count     bigint NOT NULL,
    hash      bytea NOT NULL CHECK (length(hash) = 32),      -- SHA-256(previous, then each row's text and a line feed)
    previous  bytea NOT NULL CHECK (length(previous) = 32),
    sealed_at timestamptz NOT NULL,
    CHECK (from_xact < to_xact)
);
CREATE TRIGGER audit_seals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_seals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- One text per row, the same whatever the session's settings.
CREATE VIEW sealed_rows AS
    SELECT xact, id, 't' AS kind,
           jsonb_build_array('t', id, user_id, debit_account, credit_account, amount::text, code, subject_id, version,
                             purchase_id, payout_id, xact::text, extract(epoch FROM created_at)::text)::text AS words
    FROM transfers
    UNION ALL
    SELECT xact, id, 'a',
           jsonb_build_array('a', id, extract(epoch FROM occurred_at)::text, actor_type, actor_id, action, resource_type,
                             resource_id, outcome, details, xact::text)::text
    FROM audit_log;

GRANT SELECT ON audit_seals, sealed_rows TO clicknback_api, clicknback_worker;
GRANT INSERT ON audit_seals TO clicknback_worker;
