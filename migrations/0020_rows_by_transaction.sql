-- Transfers and audit rows in the order of their transactions: the auditor and the sealer read what is new by it.
-- New rows go to its right edge, so that it costs a writer little.
CREATE INDEX transfers_by_xact ON transfers (xact);
CREATE INDEX audit_log_by_xact ON audit_log (xact);
