//! The payout protocol: one payout, two workers, a bank that answers late, wrongly or not at all, and people.
//!
//! A tick is a second. What a worker decides is [`shared::payouts::state`]; begin, settle and the operator's verb are
//! mirrored after `payouts::{begin, settle, operator}`. A claim that was lost is a hand that is no longer ours, which
//! is what [`super::jobs`] shows of fences. Not in here: the bank's statement, except that money comes back.

use shared::clock::Timestamp;
use shared::jobs::Outcome;
use shared::payouts::state::{after, next};
use shared::payouts::{Call, Change, Guard, Reading, Sent, Standing, State, Step, Terms, Then};
use stateright::{Model, Property};
use time::Duration;
use worker::payout::Rail;

use super::rows::{NOW, Who};

const TERMS: Terms =
    Terms { deadline: Duration::seconds(2), key_window: Duration::seconds(4), patience: Duration::seconds(2) };
/// What a call may take, in ticks.
const TIMEOUT: u8 = 1;
/// Nothing new happens to time after this tick.
const HORIZON: u8 = 7;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Money {
    Held,
    Paid,
    Released,
}

/// The job `payouts.send`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Job {
    Waits { until: u8 },
    Claimed,
    Dead,
    Ended,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    Claimed { cleared: bool },
    Sending { key: usize, deadline: u8 },
    Asking,
    Answered { call: Call, reading: Reading },
}

/// A worker's attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Hand {
    ours: bool,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Verdict {
    Accepted,
    Completed,
    Rejected,
}

/// What the bank has under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Record {
    since: u8,
    verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    now: u8,
    state: State,
    unknown: bool,
    money: Money,
    sent: Option<Sent>,
    owes: bool,
    job: Job,
    hands: [Option<Hand>; 2],
    /// By key; the second one is used only by a worker that is built wrong.
    records: [Option<Record>; 2],
    debits: u8,
    /// Sends nobody waits for any more: key, and until when the bank may carry them out.
    on_the_way: Vec<(usize, u8)>,
    losses: u8,
    person: u8,
}

/// What the network and the bank make of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fate {
    /// Carried out, and the answer comes.
    Heard(Verdict),
    /// Carried out, and no answer comes: commit-then-hang, commit-then-500, a reset.
    Unheard(Verdict),
    /// No answer comes, and it may be carried out later.
    Late,
    /// 5xx or 409, and nothing was done.
    Nothing,
    /// The connection was refused.
    NotExecuted,
    /// 422, and the answer comes or not.
    Refused { heard: bool },
    /// A look-up whose answer lags behind.
    Lagging,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Act {
    Tick,
    Owe,
    Claim(Who),
    Begin(Who),
    Call(Who, Fate),
    Settle(Who),
    /// The process dies, and rescue frees the job.
    Crash(Who),
    /// The process is taken for dead and goes on.
    Zombie(Who),
    Land(Verdict),
    LandRefused,
    Decide(Verdict),
    Operator,
    Retry,
    Return,
}

/// How the worker is built, and how long the bank knows a key.
#[derive(Debug, Clone, Copy)]
struct Protocol {
    same_key: bool,
    patient: bool,
    bank_window: u8,
}

/// The bank's window is longer than ours by more than a send's deadline, as at the sandbox bank (a day and 23 hours).
const SOUND: Protocol = Protocol { same_key: true, patient: true, bank_window: 7 };

fn at(tick: u8) -> Timestamp {
    NOW + Duration::seconds(tick.into())
}

fn tick(at: Timestamp) -> u8 {
    u8::try_from((at - NOW).whole_seconds().clamp(0, 250)).unwrap()
}

impl World {
    fn step(&self, act: &Act, how: Protocol) -> Option<Self> {
        let mut next = self.clone();
        next.act(act, how)?;
        (next != *self).then_some(next)
    }

    fn act(&mut self, act: &Act, how: Protocol) -> Option<()> {
        match *act {
            Act::Tick => {
                self.now += 1;
                let now = self.now;
                self.on_the_way.retain(|(_, deadline)| now < *deadline);
            }
            Act::Owe => self.owes = true,
            Act::Claim(who) => {
                let Job::Waits { until } = self.job else { return None };
                if until > self.now || self.hands[who].is_some() {
                    return None;
                }
                self.job = Job::Claimed;
                self.hands[who] = Some(Hand { ours: true, phase: Phase::Claimed { cleared: false } });
            }
            Act::Begin(who) => self.begin(who, how)?,
            Act::Call(who, fate) => self.call(who, fate, how)?,
            Act::Settle(who) => self.settle(who, how)?,
            Act::Crash(who) => {
                if self.hands[who].take()?.ours {
                    self.job = Job::Waits { until: self.now };
                }
                self.losses = self.losses.checked_sub(1)?;
            }
            Act::Zombie(who) => {
                let hand = self.hands[who].as_mut().filter(|hand| hand.ours)?;
                hand.ours = false;
                self.job = Job::Waits { until: self.now };
                self.losses = self.losses.checked_sub(1)?;
            }
            Act::Land(verdict) => {
                if self.on_the_way.is_empty() {
                    return None;
                }
                let (key, _) = self.on_the_way.remove(0);
                self.carry_out(key, verdict, how);
            }
            Act::LandRefused => {
                if self.on_the_way.is_empty() {
                    return None;
                }
                self.on_the_way.remove(0);
            }
            Act::Decide(verdict) => {
                let record = self.records.iter_mut().flatten().find(|record| record.verdict == Verdict::Accepted)?;
                record.verdict = verdict;
                self.debits -= u8::from(verdict == Verdict::Rejected);
            }
            Act::Operator => self.operator()?,
            Act::Retry => {
                if self.job != Job::Dead {
                    return None;
                }
                self.person = self.person.checked_sub(1)?;
                self.job = Job::Waits { until: self.now };
            }
            Act::Return => {
                if self.state != State::Completed {
                    return None;
                }
                (self.state, self.money) = (State::Returned, Money::Released);
                self.debits -= 1;
            }
        }
        Some(())
    }

    /// `payouts::begin`: the decision is production's.
    fn begin(&mut self, who: Who, how: Protocol) -> Option<()> {
        let Some(Hand { ours, phase: Phase::Claimed { cleared } }) = self.hands[who] else { return None };
        if !ours {
            self.hands[who] = None;
            return Some(());
        }
        let guard = Guard { stopped: false, owes: self.owes, active: true, has_account: true };
        let phase = match next(self.state, None, self.sent.as_ref(), &guard, cleared, at(self.now)) {
            Step::SendFirst | Step::SendAgain => {
                let sent = Sent::begin(self.sent.as_ref(), &TERMS, at(self.now));
                (self.sent, self.state) = (Some(sent), State::Processing);
                let key = usize::from(sent.doubtful && !how.same_key);
                Phase::Sending { key, deadline: tick(sent.deadline_at) }
            }
            Step::LookUp => {
                self.unknown |= self.sent.is_some_and(|sent| sent.standing == Standing::Calling);
                Phase::Asking
            }
            Step::Cancel(_) => {
                (self.state, self.money) = (State::Cancelled, Money::Released);
                return self.answer(who, Job::Ended);
            }
            Step::Wait(_) | Step::Nothing => return self.answer(who, Job::Ended),
        };
        self.hands[who] = Some(Hand { ours, phase });
        Some(())
    }

    fn answer(&mut self, who: Who, job: Job) -> Option<()> {
        self.hands[who] = None;
        self.job = job;
        Some(())
    }

    /// `Desk::call`, the network and the bank.
    fn call(&mut self, who: Who, fate: Fate, how: Protocol) -> Option<()> {
        let why = String::new;
        let unknown = || Reading::Unknown { why: why() };
        let (call, reading) = match self.hands[who].as_ref()?.phase {
            // The deadline came before the call: nothing is sent.
            Phase::Sending { deadline, .. } if self.now + TIMEOUT > deadline => {
                if fate != Fate::NotExecuted {
                    return None;
                }
                (Call::Send, Reading::NotExecuted { why: why() })
            }
            Phase::Sending { key, deadline } => {
                let reading = match fate {
                    Fate::Heard(verdict) => self.carry_out(key, verdict, how),
                    Fate::Unheard(verdict) => {
                        self.carry_out(key, verdict, how);
                        unknown()
                    }
                    Fate::Late => {
                        self.on_the_way.push((key, deadline));
                        unknown()
                    }
                    Fate::Nothing => unknown(),
                    Fate::NotExecuted => Reading::NotExecuted { why: why() },
                    Fate::Refused { heard } => match self.known(key, how) {
                        // A bank that knows the key answers with what it has.
                        Some(_) => return None,
                        None if heard => Reading::Refused { reason: why() },
                        None => unknown(),
                    },
                    Fate::Lagging => return None,
                };
                (Call::Send, reading)
            }
            Phase::Asking => {
                let reading = match fate {
                    Fate::Heard(Verdict::Accepted) => {
                        // A worker that is built wrong asks for the last key it used.
                        let key = usize::from(self.records[1].is_some());
                        self.known(key, how).map_or(Reading::NotFound { authoritative: true }, said)
                    }
                    Fate::Lagging => Reading::NotFound { authoritative: false },
                    Fate::Nothing => unknown(),
                    _ => return None,
                };
                (Call::LookUp, reading)
            }
            Phase::Claimed { .. } | Phase::Answered { .. } => return None,
        };
        self.hands[who].as_mut()?.phase = Phase::Answered { call, reading };
        Some(())
    }

    /// What the bank knows under a key: it forgets it after its window.
    fn known(&self, key: usize, how: Protocol) -> Option<Verdict> {
        self.records[key].filter(|record| self.now < record.since + how.bank_window).map(|record| record.verdict)
    }

    /// A send reaches the bank: a new payment, or the one it knows.
    fn carry_out(&mut self, key: usize, verdict: Verdict, how: Protocol) -> Reading {
        if let Some(known) = self.known(key, how) {
            return said(known);
        }
        self.records[key] = Some(Record { since: self.now, verdict });
        self.debits += u8::from(verdict != Verdict::Rejected);
        said(verdict)
    }

    /// `payouts::settle`: the meaning is production's.
    fn settle(&mut self, who: Who, how: Protocol) -> Option<()> {
        let Some(Hand { ours, phase: Phase::Answered { call, reading } }) = self.hands[who].clone() else {
            return None;
        };
        if !ours {
            self.hands[who] = None;
            return Some(());
        }
        let (Some(mut sent), State::Processing) = (self.sent, self.state) else { return self.answer(who, Job::Ended) };
        let (mut change, mut then) = after(&sent, call, &reading, 0, &TERMS, at(self.now));
        if !how.patient && matches!(reading, Reading::Unknown { .. }) {
            (change, then) = (Change::Fail { reason: String::new() }, Then::Job(Outcome::Done));
        }
        sent.apply(&change);
        self.sent = Some(sent);
        match change {
            Change::Nothing => {}
            Change::Unknown => self.unknown = true,
            Change::NotSent | Change::Accepted => self.unknown = false,
            Change::Complete { .. } => {
                (self.state, self.money, self.unknown) = (State::Completed, Money::Paid, false);
            }
            Change::Fail { .. } => {
                (self.state, self.money, self.unknown) = (State::Failed, Money::Released, false);
            }
        }
        match then {
            Then::BeginCleared => {
                self.hands[who] = Some(Hand { ours, phase: Phase::Claimed { cleared: true } });
                Some(())
            }
            Then::Job(Outcome::Later { until }) => self.answer(who, Job::Waits { until: tick(until) }),
            // With luck at once.
            Then::Job(Outcome::Retry { .. }) => self.answer(who, Job::Waits { until: self.now }),
            Then::Job(Outcome::Dead { .. }) => self.answer(who, Job::Dead),
            Then::Job(Outcome::Done | Outcome::Cancelled { .. }) => self.answer(who, Job::Ended),
        }
    }

    /// `payouts::operator::end`, by two people who asked the bank; a bank that has not decided tells them so.
    fn operator(&mut self) -> Option<()> {
        let sent = self.sent.filter(|_| self.state == State::Processing)?;
        let early = sent.standing != Standing::NotSent && at(self.now) < sent.deadline_at;
        if early || !(self.unknown || self.job == Job::Dead) {
            return None;
        }
        (self.state, self.money) = match (self.debits, self.records.iter().flatten().last()) {
            (_, Some(Record { verdict: Verdict::Accepted, .. })) => return None,
            (1.., _) => (State::Completed, Money::Paid),
            (0, _) => (State::Failed, Money::Released),
        };
        self.unknown = false;
        self.job = Job::Ended;
        for hand in self.hands.iter_mut().flatten() {
            hand.ours = false;
        }
        Some(())
    }

    /// Whether it ends from here without a further fault.
    fn has_a_way_forward(&self) -> bool {
        let mut world = self.clone();
        let mut steps = Vec::new();
        for who in 0..2 {
            steps.extend([Act::Settle(who), Act::Call(who, Fate::NotExecuted), Act::Begin(who), Act::Claim(who)]);
            steps.insert(0, Act::Call(who, Fate::Heard(Verdict::Accepted)));
        }
        steps.extend([Act::Decide(Verdict::Completed), Act::Operator, Act::Tick]);
        for _ in 0..120 {
            if world.state.has_ended() {
                return true;
            }
            let Some(next) = steps.iter().find_map(|act| world.step(act, SOUND)) else { return false };
            world = next;
        }
        false
    }
}

fn said(verdict: Verdict) -> Reading {
    match verdict {
        Verdict::Accepted => Reading::Accepted,
        Verdict::Completed => Reading::Completed { reference: String::new() },
        Verdict::Rejected => Reading::Rejected { reason: String::new() },
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            now: 0,
            state: State::Requested,
            unknown: false,
            money: Money::Held,
            sent: None,
            owes: false,
            job: Job::Waits { until: 0 },
            hands: [None, None],
            records: [None; 2],
            debits: 0,
            on_the_way: Vec::new(),
            losses: 1,
            person: 0,
        }]
    }

    fn actions(&self, world: &World, acts: &mut Vec<Act>) {
        if world.now < HORIZON {
            acts.push(Act::Tick);
        }
        acts.extend([Act::Owe, Act::Operator, Act::Retry, Act::Return, Act::LandRefused]);
        acts.extend([Verdict::Accepted, Verdict::Completed, Verdict::Rejected].map(Act::Land));
        acts.extend([Verdict::Completed, Verdict::Rejected].map(Act::Decide));
        let mut fates = vec![Fate::Late, Fate::Nothing, Fate::NotExecuted, Fate::Lagging];
        for verdict in [Verdict::Accepted, Verdict::Completed, Verdict::Rejected] {
            fates.extend([Fate::Heard(verdict), Fate::Unheard(verdict)]);
        }
        fates.extend([true, false].map(|heard| Fate::Refused { heard }));
        for who in 0..2 {
            match world.hands[who].as_ref().map(|hand| &hand.phase) {
                None => acts.push(Act::Claim(who)),
                Some(Phase::Claimed { .. }) => acts.push(Act::Begin(who)),
                Some(Phase::Sending { .. } | Phase::Asking) => {
                    acts.extend(fates.iter().map(|fate| Act::Call(who, *fate)));
                }
                Some(Phase::Answered { .. }) => acts.push(Act::Settle(who)),
            }
            acts.extend([Act::Crash(who), Act::Zombie(who)]);
        }
    }

    fn next_state(&self, world: &World, act: Act) -> Option<World> {
        world.step(&act, *self)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the bank debits at most once", |_, world: &World| world.debits <= 1),
            Property::always("what is released was not paid", |_, world: &World| {
                world.money != Money::Released || world.debits == 0
            }),
            Property::always("what is booked as paid was paid", |_, world: &World| {
                world.money != Money::Paid || world.debits == 1
            }),
            Property::always("the money follows the state", |_, world: &World| {
                world.money
                    == match world.state {
                        State::Requested | State::InReview | State::Processing => Money::Held,
                        State::Completed => Money::Paid,
                        State::Failed | State::Returned | State::Cancelled => Money::Released,
                    }
            }),
            Property::always("nothing is said before it is stored", |_, world: &World| {
                world.sent.is_some() || (world.debits == 0 && world.on_the_way.is_empty())
            }),
            Property::always("a payout has a way forward", |_, world: &World| {
                // Of an attempt under way the next state is looked at instead.
                world.hands.iter().flatten().any(|hand| hand.ours) || world.has_a_way_forward()
            }),
            Property::sometimes("it is sent again and paid", |_, world: &World| {
                world.state == State::Completed && world.sent.is_some_and(|sent| sent.doubtful)
            }),
            Property::sometimes("the bank refuses it", |_, world: &World| world.state == State::Failed),
            Property::sometimes("it is cancelled", |_, world: &World| world.state == State::Cancelled),
            Property::sometimes("it comes back", |_, world: &World| world.state == State::Returned),
            Property::sometimes("a person is asked for", |_, world: &World| world.job == Job::Dead),
            Property::sometimes("a zombie has something to send", |_, world: &World| {
                world.hands.iter().flatten().any(|hand| !hand.ours && matches!(hand.phase, Phase::Sending { .. }))
            }),
        ]
    }
}

#[test]
fn the_payout_protocol_keeps_its_promises() {
    let states = super::explore("payouts", SOUND);
    assert_eq!(states, 902_038, "docs/RELIABILITY.md says how many");
}

#[test]
fn a_new_key_on_retry_is_noticed() {
    let wrong = Protocol { same_key: false, ..SOUND };
    super::expect_broken("payouts with a new key", wrong, "the bank debits at most once");
}

#[test]
fn a_release_on_time_out_is_noticed() {
    let wrong = Protocol { patient: false, ..SOUND };
    super::expect_broken("payouts released on time-out", wrong, "what is released was not paid");
}

/// A send that was permitted in the last moment of our window arrives up to its deadline later.
#[test]
fn a_key_window_without_a_margin_is_noticed() {
    let wrong = Protocol { bank_window: 4, ..SOUND };
    super::expect_broken("payouts without a margin", wrong, "the bank debits at most once");
}

/// The model's margin is the sandbox bank's: it knows a key for a day.
#[test]
fn the_sandbox_banks_margin_is_longer_than_a_sends_deadline() {
    let bank = worker::payout::sandbox::Sandbox::new("http://bank", String::new(), std::time::Duration::from_secs(5));
    let terms = bank.unwrap().about().terms;
    assert!(terms.key_window + terms.deadline < Duration::DAY, "{terms:?}");
}
