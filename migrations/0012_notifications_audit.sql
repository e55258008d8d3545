-- One email per event, subject and version. The id is the job's and makes the Message-ID.
CREATE TABLE notifications (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES users,
    event      text NOT NULL,
    subject_id uuid NOT NULL,
    version    integer NOT NULL,
    sent_at    timestamptz NOT NULL,
    UNIQUE (subject_id, event, version)
);

-- What people did and what became of purchases and payouts. Append-only.
CREATE TABLE audit_log (
    id            uuid PRIMARY KEY,
    occurred_at   timestamptz NOT NULL,
    actor_type    text NOT NULL CHECK (actor_type IN ('system', 'admin', 'user')),
    actor_id      uuid,
    action        text NOT NULL,
    resource_type text NOT NULL,
    resource_id   text NOT NULL,
    outcome       text NOT NULL CHECK (outcome IN ('success', 'failure')),
    details       jsonb NOT NULL,
    xact          xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX audit_log_by_resource ON audit_log (resource_id);
