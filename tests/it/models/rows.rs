//! The job tables for one kind and subject and two processes, as the statements of `shared::jobs` change them.
//!
//! Time is folded: a job is due or not, a push mark is fresh or has expired, a heartbeat is heard or silent.

use shared::clock::Timestamp;
use shared::jobs::Outcome;
use shared::jobs::backoff::MAX_FAILURES;
use shared::jobs::rescue::POISON_CRASHES;
use shared::jobs::verdict::{self, Verdict};
use time::macros::datetime;

pub(super) const NOW: Timestamp = datetime!(2026-03-01 12:00 UTC);

/// Which of the two processes.
pub(super) type Who = usize;

/// `jobs.push_until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mark {
    Absent,
    Fresh,
    Expired,
}

/// A row of `jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Live {
    /// 1 for the subject's first job, 2 for its second.
    pub(super) id: u8,
    pub(super) by: Option<Who>,
    pub(super) fence: i32,
    pub(super) again: bool,
    pub(super) mark: Mark,
    /// `run_at <= now`.
    pub(super) due: bool,
    pub(super) failures: i32,
    pub(super) crashes: i32,
    pub(super) waits: i32,
    pub(super) max_failures: i32,
}

/// A row of `jobs_dead`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Dead {
    pub(super) id: u8,
    pub(super) fence: i32,
    pub(super) failures: i32,
    pub(super) crashes: i32,
    pub(super) max_failures: i32,
}

/// A row of `workers`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Heart {
    pub(super) silent: bool,
    pub(super) under_work: Option<u8>,
}

/// What a process holds in its hand: `Claimed::{id, fence}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Claim {
    pub(super) id: u8,
    pub(super) fence: i32,
}

/// Which rules hold; the wrong variants switch one off.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) fence: bool,
    pub(super) wakes: bool,
}

pub(super) const SOUND: Rules = Rules { fence: true, wakes: true };

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Tables {
    pub(super) live: Option<Live>,
    pub(super) dead: Option<Dead>,
    pub(super) hearts: [Option<Heart>; 2],
}

impl Tables {
    /// `enqueue::enqueue`, with room: answers the id to push. `id`: what a new row is called.
    pub(super) fn enqueue(&mut self, id: u8, rules: Rules) -> Option<u8> {
        self.dead = None;
        let Some(live) = &mut self.live else {
            self.live = Some(Live {
                id,
                by: None,
                fence: 0,
                again: false,
                mark: Mark::Fresh,
                due: true,
                failures: 0,
                crashes: 0,
                waits: 0,
                max_failures: MAX_FAILURES,
            });
            return Some(id);
        };
        live.due = true;
        if live.by.is_some() {
            live.again |= rules.wakes;
            return None;
        }
        live.mark = Mark::Fresh;
        Some(live.id)
    }

    /// `claim::claim`.
    pub(super) fn claim(&mut self, who: Who, id: u8) -> Option<Claim> {
        let live = self.live.as_mut().filter(|live| live.id == id && live.by.is_none() && live.due)?;
        (live.by, live.fence) = (Some(who), live.fence + 1);
        Some(Claim { id, fence: live.fence })
    }

    /// `claim::forget_pushes`.
    pub(super) fn forget_push(&mut self, id: u8) {
        if let Some(live) = self.live.as_mut().filter(|live| live.id == id && live.by.is_none()) {
            live.mark = Mark::Absent;
        }
    }

    /// `claim::lock_claims`.
    pub(super) fn holds(&self, who: Who, claim: Claim, rules: Rules) -> bool {
        self.live.as_ref().is_some_and(|live| {
            live.id == claim.id && (!rules.fence || (live.fence == claim.fence && live.by == Some(who)))
        })
    }

    /// `claim::give_back`: answers the id to push.
    pub(super) fn give_back(&mut self, who: Who, claim: Claim, pushed: bool) -> Option<u8> {
        if !self.holds(who, claim, SOUND) {
            return None;
        }
        let live = self.live.as_mut()?;
        (live.by, live.again) = (None, false);
        live.mark = if pushed { Mark::Fresh } else { Mark::Absent };
        pushed.then_some(live.id)
    }

    /// `claim::give_back_unknown`, of a process that knows to hold nothing.
    pub(super) fn give_back_unknown(&mut self, who: Who, id: u8) {
        if let Some(live) = self.live.as_mut().filter(|live| live.id == id && live.by == Some(who)) {
            (live.by, live.again, live.mark) = (None, false, Mark::Absent);
        }
    }

    /// `settle::settle` after `lock_claims`: none when the claim is lost; else the id to push, if there is one.
    /// The decision is production's.
    pub(super) fn settle(&mut self, who: Who, claim: Claim, outcome: &Outcome, rules: Rules) -> Option<Option<u8>> {
        if !self.holds(who, claim, rules) {
            return None;
        }
        let live = self.live.as_mut()?;
        let row = verdict::Row {
            again: live.again,
            failures: live.failures,
            waits: live.waits,
            max_failures: live.max_failures,
        };
        Some(match verdict::decide(NOW, row, outcome, 1) {
            // settle::end
            Verdict::End { .. } => {
                self.live = None;
                None
            }
            // settle::stay
            Verdict::Stay(stay) => {
                (live.by, live.again, live.crashes) = (None, false, 0);
                live.due = stay.run_at <= NOW;
                live.mark = if stay.woken { Mark::Fresh } else { Mark::Absent };
                (live.failures, live.waits, live.max_failures) = (stay.failures, stay.waits, stay.max_failures);
                stay.woken.then_some(live.id)
            }
            // settle::bury
            Verdict::Bury { failures, .. } => {
                let Live { id, fence, crashes, max_failures, .. } = *live;
                self.dead = Some(Dead { id, fence, failures, crashes, max_failures });
                self.live = None;
                None
            }
        })
    }

    /// `rescue::rescue`, by a dispatch that may: whether anything changed.
    pub(super) fn rescue(&mut self) -> bool {
        let before = self.clone();
        if let Some(live) = &mut self.live
            && let Some(who) = live.by
            && self.hearts[who].as_ref().is_none_or(|heart| heart.silent)
        {
            let started = self.hearts[who].as_ref().is_some_and(|heart| heart.under_work == Some(live.id));
            let poison = started && live.crashes + 1 >= POISON_CRASHES;
            if poison && !live.again {
                let Live { id, fence, failures, crashes, max_failures, .. } = *live;
                self.dead = Some(Dead { id, fence, failures, crashes: crashes + 1, max_failures });
                self.live = None;
            } else {
                (live.by, live.mark, live.again) = (None, Mark::Absent, false);
                live.crashes = match (started, poison) {
                    (false, _) => live.crashes,
                    (true, true) => 1,
                    (true, false) => live.crashes + 1,
                };
            }
        }
        for heart in &mut self.hearts {
            heart.take_if(|heart| heart.silent);
        }
        *self != before
    }

    /// `dispatch::take_due`, with room: the id to push.
    pub(super) fn take_due(&mut self) -> Option<u8> {
        let live = self.live.as_mut().filter(|live| live.due && live.by.is_none() && live.mark != Mark::Fresh)?;
        live.mark = Mark::Fresh;
        Some(live.id)
    }

    /// `dispatch::forget_all_pushes`.
    pub(super) fn forget_all_pushes(&mut self) {
        if let Some(live) = self.live.as_mut().filter(|live| live.by.is_none() && live.due) {
            live.mark = Mark::Absent;
        }
    }

    /// `operator::retry`.
    pub(super) fn retry(&mut self) {
        let Some(dead) = self.dead.take() else { return };
        self.live.get_or_insert(Live {
            id: dead.id,
            by: None,
            fence: dead.fence,
            again: false,
            mark: Mark::Absent,
            due: true,
            failures: 0,
            crashes: 0,
            waits: 0,
            max_failures: dead.max_failures,
        });
    }

    /// `workers::beat`.
    pub(super) fn beat(&mut self, who: Who, under_work: Option<u8>) {
        self.hearts[who] = Some(Heart { silent: false, under_work });
    }

    /// `workers::set_under_work`: false when the process was taken for dead.
    pub(super) fn set_under_work(&mut self, who: Who, id: u8) -> bool {
        self.hearts[who].as_mut().map(|heart| heart.under_work = Some(id)).is_some()
    }

    /// Fifteen seconds pass after a push.
    pub(super) fn expire_mark(&mut self) {
        if let Some(live) = self.live.as_mut().filter(|live| live.mark == Mark::Fresh) {
            live.mark = Mark::Expired;
        }
    }

    /// The job's time comes.
    pub(super) fn become_due(&mut self) {
        if let Some(live) = &mut self.live {
            live.due = true;
        }
    }

    /// Eight seconds pass without a heartbeat.
    pub(super) fn fall_silent(&mut self, who: Who) {
        if let Some(heart) = &mut self.hearts[who] {
            heart.silent = true;
        }
    }
}
