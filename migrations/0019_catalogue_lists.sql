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
