-- Double entry: one row moves money from one account to another. Never changed, never deleted.
-- An account is a bucket of a user; `rewards` and `fees` belong to the platform.
CREATE TABLE transfers (
    id             uuid PRIMARY KEY,
    user_id        uuid NOT NULL REFERENCES users,
    debit_account  text NOT NULL CHECK (debit_account IN ('rewards', 'pending', 'available', 'held', 'paid', 'owed', 'fees')),
    credit_account text NOT NULL CHECK (credit_account IN ('rewards', 'pending', 'available', 'held', 'paid', 'owed', 'fees')),
    amount         numeric(19,2) NOT NULL CHECK (amount > 0),   -- EUR
    code           text NOT NULL CHECK (code IN ('track', 'adjust_up', 'adjust_down', 'reverse', 'clawback', 'mature',
                       'recover', 'hold', 'settle', 'release', 'bounce', 'return_fee', 'grant', 'forgive', 'forfeit', 'open')),
    subject_id     uuid NOT NULL,         -- what caused it: a purchase, a payout, a decision of a person
    version        integer NOT NULL,      -- the subject's version it belongs to
    purchase_id    uuid REFERENCES purchases,   -- for explaining: the purchase it is about, if any
    payout_id      uuid,                  -- the payout it is about, if any
    xact           xid8 NOT NULL DEFAULT pg_current_xact_id(),  -- so that the auditor never skips a late commit
    created_at     timestamptz NOT NULL,
    CHECK (debit_account <> credit_account)
);
-- The key that makes every movement happen once.
CREATE UNIQUE INDEX transfers_once ON transfers (subject_id, code, version);
CREATE INDEX transfers_by_user ON transfers (user_id, id);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER transfers_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transfers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Each user's buckets, changed in the transaction that writes the transfers.
CREATE TABLE wallets (
    user_id   uuid PRIMARY KEY REFERENCES users,
    pending   numeric(19,2) NOT NULL DEFAULT 0 CHECK (pending >= 0),
    available numeric(19,2) NOT NULL DEFAULT 0 CHECK (available >= 0),
    held      numeric(19,2) NOT NULL DEFAULT 0 CHECK (held >= 0),    -- payout under way
    paid      numeric(19,2) NOT NULL DEFAULT 0 CHECK (paid >= 0),
    owed      numeric(19,2) NOT NULL DEFAULT 0 CHECK (owed >= 0),    -- what the shopper owes us (debit-normal)
    version   bigint NOT NULL DEFAULT 0                              -- counts changes
) WITH (fillfactor = 70);

-- What a shopper has used of an offer's monthly cap.
CREATE TABLE cashback_caps (
    user_id  uuid NOT NULL,
    offer_id uuid NOT NULL,
    month    date NOT NULL,                 -- first day, in BUSINESS_TIMEZONE
    used     numeric(19,2) NOT NULL DEFAULT 0 CHECK (used >= 0),
    PRIMARY KEY (user_id, offer_id, month)
) WITH (fillfactor = 70);
