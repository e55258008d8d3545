-- Merchants and offers are never removed, only hidden: a purchase that is being made at that moment keeps its names.
ALTER TABLE merchants ADD COLUMN deleted_at timestamptz;
ALTER TABLE offers ADD COLUMN deleted_at timestamptz;
DROP INDEX merchants_name;
CREATE UNIQUE INDEX merchants_name ON merchants (lower(name)) WHERE deleted_at IS NULL;
CREATE INDEX merchants_newest ON merchants (created_at, id);
CREATE INDEX offers_newest ON offers (created_at, id);
CREATE INDEX offers_active ON offers (created_at, id) WHERE active;
-- Whether an offer was ever used.
CREATE INDEX purchases_by_offer ON purchases (offer_id) WHERE offer_id IS NOT NULL;

-- Payout lists.
CREATE INDEX payouts_newest ON payouts (requested_at, id);
CREATE INDEX payouts_by_state ON payouts (state, requested_at, id);

GRANT DELETE ON bank_accounts TO clicknback_api;
GRANT SELECT, INSERT, UPDATE ON payout_stops TO clicknback_api;

-- A payout goes to the account that was stored when it was requested: a later change cannot redirect it. Copied from
-- bank_accounts as it stands there: sealed, bound to user_id.
ALTER TABLE payouts
    ADD COLUMN account_key_id text,
    ADD COLUMN account_sealed bytea,       -- null: there was none; it is cancelled when it would begin
    ADD COLUMN account_masked text;        -- what a screen may show
UPDATE payouts SET account_key_id = key_id, account_sealed = sealed, account_masked = masked
FROM bank_accounts WHERE bank_accounts.user_id = payouts.user_id AND state IN ('requested', 'in_review');

-- A line of a statement that cannot be read is kept by its number, so that the lines after it are not held up.
ALTER TABLE bank_movements
    ALTER COLUMN kind DROP NOT NULL,
    ALTER COLUMN key DROP NOT NULL,
    ALTER COLUMN reference DROP NOT NULL,
    ALTER COLUMN amount DROP NOT NULL,
    ADD CHECK (outcome = 'quarantined' OR (kind IS NOT NULL AND key IS NOT NULL AND reference IS NOT NULL AND amount IS NOT NULL));
