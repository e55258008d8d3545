-- How far the auditor and the sealer have come, and where the auditor's rounds stand. A row's lock makes one dispatch
-- at a time do that step.
CREATE TABLE auditor (
    step        text PRIMARY KEY CHECK (step IN ('audit', 'seal')),
    epoch       integer NOT NULL DEFAULT 1,
    next_xact   xid8 NOT NULL DEFAULT '0',      -- audit: everything below was looked at
    wallet      uuid,                           -- the rounds: the last one looked at
    purchase    uuid,
    payout      uuid,
    seal        bigint NOT NULL DEFAULT 0,
    ran_at      timestamptz,                    -- database clock
    rows_read   bigint NOT NULL DEFAULT 0       -- new rows in the last pass that found any
) WITH (fillfactor = 50);
INSERT INTO auditor (step) VALUES ('audit'), ('seal');

-- What the auditor found, once per rule and row while it lasts.
CREATE TABLE audit_findings (
    id          uuid PRIMARY KEY,
    class       text NOT NULL CHECK (class IN ('money', 'liveness')),
    rule        text NOT NULL,
    subject     text NOT NULL,
    detail      text NOT NULL,
    found_at    timestamptz NOT NULL,
    resolved_at timestamptz
);
CREATE UNIQUE INDEX audit_findings_open ON audit_findings (rule, subject) WHERE resolved_at IS NULL;
CREATE INDEX audit_findings_newest ON audit_findings (found_at);

-- Whose stop it is: the auditor's are lifted together, after a clean audit; the others one by one.
ALTER TABLE payout_stops ADD COLUMN origin text NOT NULL DEFAULT 'statement'
    CHECK (origin IN ('statement', 'audit', 'epoch'));
CREATE UNIQUE INDEX payout_stops_audit ON payout_stops (cause) WHERE lifted_at IS NULL AND origin = 'audit';

GRANT SELECT ON auditor, audit_findings TO clicknback_api, clicknback_worker;
GRANT UPDATE ON auditor TO clicknback_worker;
GRANT INSERT, UPDATE ON audit_findings TO clicknback_worker;

