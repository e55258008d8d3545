-- The network of purchases made through the contract's own route: untrusted, confirmed by a person.
-- Its reports name the buyer; all other networks name a click.
ALTER TABLE reports ADD COLUMN user_id uuid;   -- who bought, where the source itself says so
INSERT INTO networks (name, adapter, verifier, hold_seconds, created_at)
VALUES ('self', 'self', 'manual', 30 * 86400, now());
