-- How far a bank's statement is complete after books were restored is told in rescue_clock's time: no clock that jumps, of
-- a worker or of the database's machine, lets a payout that is still under way count as never sent.
ALTER TABLE bank_cursors DROP COLUMN complete_to;
ALTER TABLE bank_cursors ADD COLUMN complete_to interval; -- what was sent when rescue_clock.watched stood here is on the
                                                          -- lines read; written while the stop of an epoch is live
ALTER TABLE payout_stops ADD COLUMN watched interval;     -- where rescue_clock.watched stood when an epoch began
UPDATE payout_stops SET watched = rescue_clock.watched FROM rescue_clock WHERE origin = 'epoch';
ALTER TABLE payout_stops ADD CHECK (origin <> 'epoch' OR watched IS NOT NULL);
