//! The job protocol: one subject, two processes, everything that may be lost on the way.
//!
//! A run of the worker reads what its subject wants when it claims, and does the effect in the transaction that
//! settles. A frozen process goes on later with what it had in its hand.

use shared::jobs::rescue::POISON_CRASHES;
use shared::jobs::{ErrorClass, Outcome};
use stateright::{Model, Property};
use time::Duration;

use super::rows::{Claim, NOW, Rules, SOUND, Tables, Who};

/// What a process has in its hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Hand {
    Empty,
    /// Popped from Redis's list.
    Popped(u8),
    /// The claim's answer was lost.
    Unsure(u8),
    /// Claimed; `saw`: how often the subject had been asked for by then.
    Claimed {
        claim: Claim,
        saw: u8,
    },
    /// Under work.
    Started {
        claim: Claim,
        saw: u8,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Life {
    Up,
    Frozen,
    Down,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Process {
    life: Life,
    hand: Hand,
}

/// What may still go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Budget {
    wakes: u8,
    deaths: u8,
    freezes: u8,
    answers: u8,
    unheard: u8,
    flushes: u8,
    retries: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    tables: Tables,
    /// Redis's list; two copies of an id at most.
    list: Vec<u8>,
    processes: [Process; 2],
    budget: Budget,
    /// How often the subject was asked for, and how often the effect happened.
    asked: u8,
    effects: u8,
    /// What the attempt that ended the job last had seen.
    ended_after: u8,
    jobs: u8,
    /// The highest claim ever given out, and whether one was given out twice.
    highest: Claim,
    repeated: bool,
    /// Deaths of processes that held the job since it was settled last; and whether rescue buried it too early.
    deaths: i32,
    too_early: bool,
}

/// An answer of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Say {
    Done,
    Later,
    Refused,
    Broken,
    Dead,
}

/// What became of the commit's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Commit {
    Heard,
    /// It committed, and the process does not know.
    Unheard,
    /// It committed, and the process died: what was to be pushed is not.
    Died,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Act {
    Wake { pushed: bool },
    Dispatch { pushed: bool },
    MarkExpires,
    TimeComes,
    Flush,
    ForgetAllPushes,
    Retry,
    Pop(Who),
    Claim(Who),
    ClaimUnheard(Who),
    GiveBack(Who),
    GiveBackUnknown(Who),
    Start(Who),
    Settle(Who, Say, Commit),
    Beat(Who),
    Die(Who),
    Freeze(Who),
    Thaw(Who),
    FallSilent(Who),
    Rescue,
    Restart(Who),
}

/// The protocol under these rules.
struct Protocol {
    rules: Rules,
    budget: Budget,
    /// Claims of one job: without an end to them a job could be given back for ever.
    claims: i32,
    /// What must be seen on the way, or the exploration shows nothing.
    seen: &'static [&'static str],
}

const NONE: Budget = Budget { wakes: 1, deaths: 0, freezes: 0, answers: 0, unheard: 0, flushes: 0, retries: 0 };
/// A process is taken for dead and goes on, while the subject is asked for again.
const ZOMBIE: Budget = Budget { wakes: 2, freezes: 1, ..NONE };
/// Answers that are not "done", commits and claims nobody hears of, a process that dies, a flushed Redis.
const LOSSES: Budget = Budget { deaths: 1, answers: 1, unheard: 1, flushes: 1, ..NONE };
/// Processes die until the job is poison, and a person lets it live again.
const DEATHS: Budget = Budget { deaths: 4, retries: 1, ..NONE };

fn outcome(say: Say) -> Outcome {
    let error = String::new();
    match say {
        Say::Done => Outcome::Done,
        Say::Later => Outcome::Later { until: NOW + Duration::DAY },
        Say::Refused => Outcome::Retry { class: ErrorClass::Refused, error },
        Say::Broken => Outcome::Retry { class: ErrorClass::Internal, error },
        Say::Dead => Outcome::Dead { error },
    }
}

impl World {
    fn push(&mut self, id: Option<u8>, arrives: bool) {
        if let Some(id) = id.filter(|_| arrives && self.list.len() < 2) {
            self.list.push(id);
        }
    }

    fn up(&self, who: Who) -> bool {
        self.processes[who].life == Life::Up
    }

    fn under_work(&self, who: Who) -> Option<u8> {
        match self.processes[who].hand {
            Hand::Started { claim, .. } => Some(claim.id),
            _ => None,
        }
    }

    /// The next state; none when the act is not possible or changes nothing.
    fn step(&self, act: Act, rules: Rules) -> Option<Self> {
        let mut next = self.clone();
        next.act(act, rules)?;
        (next != *self).then_some(next)
    }

    fn act(&mut self, act: Act, rules: Rules) -> Option<()> {
        match act {
            Act::Wake { pushed } => {
                spend(&mut self.budget.wakes)?;
                self.asked += 1;
                if self.tables.live.is_none() {
                    self.jobs += 1;
                }
                let id = self.tables.enqueue(self.jobs, rules);
                self.push(id, pushed);
            }
            Act::Dispatch { pushed } => {
                let id = self.tables.take_due();
                self.push(id, pushed);
            }
            Act::MarkExpires => self.tables.expire_mark(),
            Act::TimeComes => self.tables.become_due(),
            Act::Flush => {
                spend(&mut self.budget.flushes)?;
                self.list.clear();
            }
            Act::ForgetAllPushes => self.tables.forget_all_pushes(),
            Act::Retry => {
                self.tables.dead.as_ref()?;
                spend(&mut self.budget.retries)?;
                self.tables.retry();
            }
            Act::Rescue => self.rescue(),
            Act::Pop(who)
            | Act::Claim(who)
            | Act::ClaimUnheard(who)
            | Act::GiveBack(who)
            | Act::GiveBackUnknown(who)
            | Act::Start(who)
            | Act::Settle(who, ..)
            | Act::Beat(who)
            | Act::Freeze(who)
                if !self.up(who) =>
            {
                return None;
            }
            Act::Pop(who) => {
                if self.processes[who].hand != Hand::Empty || self.list.is_empty() {
                    return None;
                }
                self.processes[who].hand = Hand::Popped(self.list.remove(0));
            }
            Act::Claim(who) => self.claim(who, true)?,
            Act::ClaimUnheard(who) => {
                spend(&mut self.budget.unheard)?;
                self.claim(who, false)?;
            }
            Act::GiveBack(who) => {
                let Hand::Claimed { claim, .. } = self.processes[who].hand else { return None };
                let id = self.tables.give_back(who, claim, true);
                self.push(id, true);
                self.processes[who].hand = Hand::Empty;
            }
            Act::GiveBackUnknown(who) => {
                let Hand::Unsure(id) = self.processes[who].hand else { return None };
                self.tables.give_back_unknown(who, id);
                self.processes[who].hand = Hand::Empty;
            }
            Act::Start(who) => {
                let Hand::Claimed { claim, saw } = self.processes[who].hand else { return None };
                if !self.tables.set_under_work(who, claim.id) {
                    return None;
                }
                self.processes[who].hand = Hand::Started { claim, saw };
            }
            Act::Settle(who, say, commit) => self.settle(who, say, commit, rules)?,
            Act::Beat(who) => self.tables.beat(who, self.under_work(who)),
            Act::Die(who) => {
                if self.processes[who].life == Life::Down {
                    return None;
                }
                spend(&mut self.budget.deaths)?;
                self.processes[who] = Process { life: Life::Down, hand: Hand::Empty };
            }
            Act::Freeze(who) => {
                spend(&mut self.budget.freezes)?;
                self.processes[who].life = Life::Frozen;
            }
            Act::Thaw(who) => {
                if self.processes[who].life != Life::Frozen {
                    return None;
                }
                self.processes[who].life = Life::Up;
            }
            Act::FallSilent(who) => {
                if self.up(who) {
                    return None;
                }
                self.tables.fall_silent(who);
            }
            // Under a new id, in truth: here the old one must have been forgotten first.
            Act::Restart(who) => {
                if self.processes[who].life != Life::Down || self.tables.hearts[who].is_some() {
                    return None;
                }
                self.processes[who].life = Life::Up;
                self.tables.beat(who, None);
            }
        }
        Some(())
    }

    fn claim(&mut self, who: Who, heard: bool) -> Option<()> {
        let Hand::Popped(id) = self.processes[who].hand else { return None };
        let claim = self.tables.claim(who, id);
        if let Some(claim) = claim {
            let key = |claim: Claim| (claim.id, claim.fence);
            self.repeated |= key(claim) <= key(self.highest);
            self.highest = claim;
        }
        self.processes[who].hand = match claim {
            _ if !heard => Hand::Unsure(id),
            Some(claim) => Hand::Claimed { claim, saw: self.asked },
            None => {
                self.tables.forget_push(id);
                Hand::Empty
            }
        };
        Some(())
    }

    fn settle(&mut self, who: Who, say: Say, commit: Commit, rules: Rules) -> Option<()> {
        let Hand::Started { claim, saw } = self.processes[who].hand else { return None };
        if say != Say::Done {
            spend(&mut self.budget.answers)?;
        }
        match commit {
            Commit::Heard => {}
            Commit::Unheard => spend(&mut self.budget.unheard)?,
            Commit::Died => spend(&mut self.budget.deaths)?,
        }
        if let Some(push) = self.tables.settle(who, claim, &outcome(say), rules) {
            self.effects += u8::from(say == Say::Done);
            self.deaths = 0;
            if self.tables.live.is_none() {
                self.ended_after = saw;
            }
            self.push(push, commit == Commit::Heard);
        } else if !rules.fence {
            // Nothing keeps a worker that lost its job from committing its effect.
            self.effects += u8::from(say == Say::Done);
        }
        match commit {
            Commit::Heard => self.processes[who].hand = Hand::Empty,
            Commit::Unheard => {}
            Commit::Died => self.processes[who] = Process { life: Life::Down, hand: Hand::Empty },
        }
        Some(())
    }

    fn rescue(&mut self) {
        let held = self.tables.live.as_ref().is_some_and(|live| live.by.is_some());
        // It is not asked whether it was woken meanwhile: rescue itself must not bury it then.
        let woken = self.tables.live.as_ref().is_some_and(|live| live.again);
        self.tables.rescue();
        let freed = self.tables.live.as_ref().is_none_or(|live| live.by.is_none());
        self.deaths += i32::from(held && freed);
        if held && self.tables.live.is_none() {
            self.too_early |= self.deaths < POISON_CRASHES;
            self.ended_after = self.asked - u8::from(woken);
        }
    }

    /// Whether nothing but patience is needed: from here, with no further fault, frozen processes gone for good and
    /// dead ones started again, the job comes to an end.
    fn has_a_way_forward(&self) -> bool {
        let mut world = self.clone();
        let both = |act: fn(Who) -> Act| [act(0), act(1)];
        let steps: Vec<Act> = [
            both(|who| Act::Settle(who, Say::Done, Commit::Heard)),
            both(Act::Start),
            both(Act::GiveBack),
            both(Act::GiveBackUnknown),
            both(Act::Claim),
            both(Act::Pop),
            both(Act::FallSilent),
        ]
        .concat()
        .into_iter()
        .chain([Act::Rescue])
        .chain(both(Act::Restart))
        .chain([Act::TimeComes, Act::MarkExpires, Act::Dispatch { pushed: true }])
        .collect();
        for _ in 0..40 {
            if world.tables.live.is_none() {
                return true;
            }
            let beat =
                (0..2).filter(|who| world.up(*who) && world.tables.hearts[*who].as_ref().is_none_or(|h| h.silent));
            let beats: Vec<Act> = beat.map(Act::Beat).collect();
            let next = beats.into_iter().chain(steps.iter().copied()).find_map(|act| world.step(act, SOUND));
            let Some(next) = next else { return false };
            world = next;
        }
        false
    }
}

fn spend(budget: &mut u8) -> Option<()> {
    *budget = budget.checked_sub(1)?;
    Some(())
}

impl Model for Protocol {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        let mut tables = Tables::default();
        tables.beat(0, None);
        tables.beat(1, None);
        vec![World {
            tables,
            list: Vec::new(),
            processes: [Process { life: Life::Up, hand: Hand::Empty }; 2],
            budget: self.budget,
            asked: 0,
            effects: 0,
            ended_after: 0,
            jobs: 0,
            highest: Claim { id: 0, fence: 0 },
            repeated: false,
            deaths: 0,
            too_early: false,
        }]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        for pushed in [true, false] {
            acts.extend([Act::Wake { pushed }, Act::Dispatch { pushed }]);
        }
        acts.extend([Act::MarkExpires, Act::TimeComes, Act::Flush, Act::ForgetAllPushes, Act::Retry, Act::Rescue]);
        for (who, process) in world.processes.iter().enumerate() {
            match (process.life, process.hand) {
                (Life::Up, Hand::Empty) => acts.push(Act::Pop(who)),
                (Life::Up, Hand::Popped(_)) => acts.extend([Act::Claim(who), Act::ClaimUnheard(who)]),
                (Life::Up, Hand::Unsure(_)) => acts.push(Act::GiveBackUnknown(who)),
                (Life::Up, Hand::Claimed { .. }) => acts.extend([Act::GiveBack(who), Act::Start(who)]),
                (Life::Up, Hand::Started { .. }) => {
                    for say in [Say::Done, Say::Later, Say::Refused, Say::Broken, Say::Dead] {
                        let commits = [Commit::Heard, Commit::Unheard, Commit::Died];
                        acts.extend(commits.map(|commit| Act::Settle(who, say, commit)));
                    }
                }
                (Life::Frozen | Life::Down, _) => {
                    acts.extend([Act::Thaw(who), Act::FallSilent(who), Act::Restart(who)])
                }
            }
            if process.life == Life::Up {
                acts.extend([Act::Beat(who), Act::Freeze(who)]);
            }
            acts.push(Act::Die(who));
        }
    }

    fn next_state(&self, world: &World, act: Act) -> Option<World> {
        world.step(act, self.rules)
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.highest.fence <= self.claims
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let always = vec![
            Property::always("no effect twice", |_, world: &World| world.effects <= world.asked),
            Property::always("no wake-up is lost", |_, world: &World| {
                world.tables.live.is_some() || world.ended_after == world.asked
            }),
            Property::always("a live job has a way forward", |_, world: &World| {
                // Of a process that is up and has something in its hand, the next state is looked at instead.
                let busy = world.processes.iter().any(|p| p.life == Life::Up && p.hand != Hand::Empty);
                busy || world.has_a_way_forward()
            }),
            Property::always("fences only grow", |_, world: &World| !world.repeated),
            Property::always("poison only after its deaths", |_, world: &World| !world.too_early),
        ];
        let seen = [
            Property::sometimes("all is done", |_, world: &World| {
                world.asked == 2 && world.effects == 2 && world.tables.live.is_none()
            }),
            Property::sometimes("it dies of poison", |_, world: &World| {
                world.tables.dead.as_ref().is_some_and(|dead| dead.crashes >= POISON_CRASHES)
            }),
            Property::sometimes("it dies by an answer", |_, world: &World| {
                world.tables.dead.as_ref().is_some_and(|dead| dead.crashes == 0)
            }),
            Property::sometimes("it is woken under work", |_, world: &World| {
                world.tables.live.as_ref().is_some_and(|live| live.again)
            }),
            Property::sometimes("a zombie is about to settle", |_, world: &World| {
                world.processes.iter().enumerate().any(|(who, process)| match process.hand {
                    Hand::Started { claim, .. } => process.life == Life::Up && !world.tables.holds(who, claim, SOUND),
                    _ => false,
                })
            }),
        ];
        always.into_iter().chain(seen.into_iter().filter(|property| self.seen.contains(&property.name))).collect()
    }
}

#[test]
fn a_zombie_changes_nothing_and_no_wake_up_is_lost() {
    let seen = &["all is done", "it is woken under work", "a zombie is about to settle"];
    let states = super::explore("jobs, a zombie", Protocol { rules: SOUND, budget: ZOMBIE, claims: 3, seen });
    assert_eq!(states, 103_063, "docs/RELIABILITY.md says how many");
}

#[test]
fn whatever_is_lost_on_the_way_costs_time_only() {
    let seen = &["it dies by an answer"];
    let states = super::explore("jobs, losses", Protocol { rules: SOUND, budget: LOSSES, claims: 3, seen });
    assert_eq!(states, 115_095, "docs/RELIABILITY.md says how many");
}

#[test]
fn a_job_that_kills_its_processes_dies_and_lives_again_by_a_person() {
    let seen = &["it dies of poison"];
    let states = super::explore("jobs, poison", Protocol { rules: SOUND, budget: DEATHS, claims: 5, seen });
    assert_eq!(states, 62_614, "docs/RELIABILITY.md says how many");
}

#[test]
fn a_settle_without_the_fence_is_noticed() {
    let rules = Rules { fence: false, ..SOUND };
    let wrong = Protocol { rules, budget: ZOMBIE, claims: 3, seen: &[] };
    super::expect_broken("jobs without the fence", wrong, "no effect twice");
}

#[test]
fn a_wake_up_that_is_not_recorded_is_noticed() {
    let rules = Rules { wakes: false, ..SOUND };
    let wrong = Protocol { rules, budget: ZOMBIE, claims: 3, seen: &[] };
    super::expect_broken("jobs without again", wrong, "no wake-up is lost");
}
