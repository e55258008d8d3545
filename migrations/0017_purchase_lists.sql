-- What the lists of purchases need.
ALTER TABLE purchases
    -- What was last awarded while the purchase stood; rejection and reversal keep it (contract §5 shows it afterwards).
    ADD COLUMN awarded numeric(19,2) NOT NULL DEFAULT 0 CHECK (awarded >= 0);
UPDATE purchases SET awarded = cashback_amount;

CREATE INDEX purchases_newest ON purchases (created_at, id);
-- The state goes along so that a merchant's purchases of one state are counted without visiting the rows.
CREATE INDEX purchases_by_merchant ON purchases (merchant_id, created_at, id) INCLUDE (state);
CREATE INDEX purchases_by_state ON purchases (state, created_at, id);
