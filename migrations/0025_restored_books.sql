-- What books that were restored from a copy must learn from the bank (docs/decisions/0010-backup.md).
ALTER TABLE payouts
    ADD COLUMN recovered_in integer REFERENCES audit_epochs, -- the epoch in which the bank was to be asked whether it had
                                                             -- been sent, or told us of it: its instruction may be lost
    DROP CONSTRAINT payouts_origin_check,
    ADD CONSTRAINT payouts_origin_check CHECK (origin IN ('auto', 'user', 'admin', 'bank')); -- bank: found in its statement
ALTER TABLE bank_movements ADD COLUMN shopper uuid;          -- whom the remittance names; may be missing in these books
ALTER TABLE bank_cursors ADD COLUMN complete_to timestamptz; -- what was sent by then is on the lines read; written while
                                                             -- the stop of an epoch is live
ALTER TABLE payout_stops ADD COLUMN rail text, ADD COLUMN position bigint; -- the line of the statement it is about
GRANT UPDATE (outcome, payout_id) ON bank_movements TO clicknback_worker;
GRANT EXECUTE ON FUNCTION cluster_identifier() TO clicknback_api;
