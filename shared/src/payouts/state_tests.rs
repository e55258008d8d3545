//! Tables of single steps, then a model bank that does whatever a bank and a network can do.

use proptest::prelude::*;
use time::macros::datetime;

use super::*;

const T0: Timestamp = datetime!(2026-03-01 12:00 UTC);
const TERMS: Terms =
    Terms { deadline: Duration::seconds(15), key_window: Duration::hours(23), patience: Duration::days(7) };
const CLEAR: Guard = Guard { stopped: false, owes: false, active: true, has_account: true };

fn sent(standing: Standing, doubtful: bool) -> Sent {
    Sent { standing, doubtful, deadline_at: T0 + TERMS.deadline, key_expires_at: T0 + TERMS.key_window }
}

#[test]
fn a_first_send_needs_every_guard() {
    let with = |guard| next(State::Requested, None, None, &guard, false, T0);
    assert_eq!(with(CLEAR), Step::SendFirst);
    assert!(matches!(with(Guard { owes: true, ..CLEAR }), Step::Cancel(_)));
    assert!(matches!(with(Guard { active: false, ..CLEAR }), Step::Cancel(_)));
    assert!(matches!(with(Guard { has_account: false, ..CLEAR }), Step::Cancel(_)));
    assert_eq!(with(Guard { stopped: true, ..CLEAR }), Step::Wait(STOP_POLL));
    // A debt is settled even while payouts are stopped: nothing leaves.
    assert!(matches!(with(Guard { stopped: true, owes: true, ..CLEAR }), Step::Cancel(_)));
}

#[test]
fn a_payout_whose_instruction_was_lost_is_only_asked_for() {
    for (cleared, stopped) in [(false, false), (true, false), (false, true), (true, true)] {
        let guard = Guard { stopped, ..CLEAR };
        assert_eq!(next(State::Processing, None, None, &guard, cleared, T0), Step::LookUp);
    }
}

#[test]
fn a_payout_in_review_is_sent_only_when_approved() {
    let with = |review| next(State::InReview, review, None, &CLEAR, false, T0);
    assert_eq!(with(None), Step::Nothing);
    assert_eq!(with(Some(Review::Held)), Step::Nothing);
    assert_eq!(with(Some(Review::Approved)), Step::SendFirst);
}

#[test]
fn a_begun_payout_ignores_stops_and_debts() {
    let guard = Guard { stopped: true, owes: true, active: false, has_account: false };
    let calling = sent(Standing::Calling, false);
    assert_eq!(next(State::Processing, None, Some(&calling), &guard, false, T0), Step::LookUp);
}

#[test]
fn only_a_clearing_inside_the_window_permits_another_send() {
    let at = |standing, cleared, now| next(State::Processing, None, Some(&sent(standing, false)), &CLEAR, cleared, now);
    let (late, expired) = (T0 + TERMS.deadline, T0 + TERMS.key_window);
    assert_eq!(at(Standing::Calling, false, late), Step::LookUp);
    assert_eq!(at(Standing::Calling, true, T0), Step::LookUp);
    assert_eq!(at(Standing::Calling, true, late), Step::SendAgain);
    assert_eq!(at(Standing::Calling, true, expired), Step::LookUp);
    assert_eq!(at(Standing::Accepted, true, late), Step::LookUp);
    assert_eq!(at(Standing::NotSent, false, T0), Step::SendAgain);
}

#[test]
fn an_ended_payout_is_left_alone() {
    for state in [State::Completed, State::Failed, State::Returned, State::Cancelled] {
        assert_eq!(next(state, None, Some(&sent(Standing::Calling, false)), &CLEAR, true, T0), Step::Nothing);
    }
}

#[test]
fn answers_mean_what_they_prove() {
    let refused = Reading::Refused { reason: "account closed".into() };
    let not_executed = Reading::NotExecuted { why: "refused".into() };
    let unknown = Reading::Unknown { why: "time-out".into() };
    let rejected = Reading::Rejected { reason: "late".into() };
    let (fail, late) = (Change::Fail { reason: "account closed".into() }, Change::Fail { reason: "late".into() });
    let cases = [
        (Standing::Calling, false, Call::Send, &refused, fail),
        (Standing::Calling, true, Call::Send, &refused, Change::Unknown),
        (Standing::Calling, false, Call::LookUp, &refused, Change::Unknown),
        (Standing::Calling, false, Call::Send, &not_executed, Change::NotSent),
        (Standing::Calling, true, Call::Send, &not_executed, Change::Unknown),
        (Standing::Calling, false, Call::LookUp, &not_executed, Change::Unknown),
        (Standing::Accepted, false, Call::LookUp, &not_executed, Change::Nothing),
        (Standing::Calling, false, Call::Send, &unknown, Change::Unknown),
        (Standing::Accepted, false, Call::LookUp, &unknown, Change::Nothing),
        (Standing::Calling, true, Call::LookUp, &Reading::Accepted, Change::Accepted),
        (Standing::Accepted, true, Call::LookUp, &rejected, late.clone()),
        (Standing::Calling, true, Call::LookUp, &rejected, late),
        (Standing::Accepted, false, Call::LookUp, &Reading::NotFound { authoritative: true }, Change::Nothing),
        (Standing::Calling, false, Call::Send, &Reading::NotFound { authoritative: true }, Change::Unknown),
    ];
    for (standing, doubtful, call, reading, expected) in cases {
        let (change, _) = after(&sent(standing, doubtful), call, reading, 0, &TERMS, T0);
        assert_eq!(change, expected, "{standing:?} doubtful {doubtful} {call:?} {reading:?}");
    }
}

#[test]
fn not_found_never_ends_a_payout() {
    for authoritative in [false, true] {
        for standing in [Standing::Calling, Standing::Accepted] {
            for now in [T0, T0 + TERMS.deadline, T0 + TERMS.key_window, T0 + Duration::days(99)] {
                let reading = Reading::NotFound { authoritative };
                let (change, then) = after(&sent(standing, true), Call::LookUp, &reading, 3, &TERMS, now);
                assert!(matches!(change, Change::Nothing | Change::Unknown));
                assert_ne!(then, Then::Job(Outcome::Done));
            }
        }
    }
}

#[test]
fn when_patience_ends_a_person_is_asked_and_no_money_moves() {
    let end = T0 + TERMS.key_window + TERMS.patience;
    for reading in [Reading::Accepted, Reading::NotFound { authoritative: true }, Reading::Unknown { why: "".into() }] {
        let (change, then) = after(&sent(Standing::Calling, true), Call::LookUp, &reading, 9, &TERMS, end);
        assert!(!matches!(change, Change::Complete { .. } | Change::Fail { .. }));
        assert!(matches!(then, Then::Job(Outcome::Dead { .. })), "{reading:?}");
    }
}

/// What one attempt of a worker meets.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// An attempt whose calls all go this way.
    Attempt(Wire),
    /// Time passes, in seconds.
    Pass(u32),
    /// The bank gives its final word on what it has accepted.
    BankDecides { pays: bool },
    /// A request that hung in the network arrives now.
    LateArrival,
    /// A stopped worker wakes up and makes the call it had begun.
    ZombieSends,
}

#[derive(Debug, Clone, Copy)]
enum Wire {
    Good,
    /// The bank acts, the answer is lost.
    AnswerLost,
    /// The request is lost or may arrive later.
    RequestHangs,
    ConnectionRefused,
    /// The bank refuses this send without looking at the key.
    Refuses,
    /// Its look-up does not see the newest payments yet.
    Blind,
    /// We crash after begin, before the call.
    CrashBeforeCall,
    /// We crash after the call, before settle.
    CrashAfterCall,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Record {
    Accepted,
    Paid,
    Rejected,
}

#[derive(Debug, Default)]
struct Bank {
    record: Option<Record>,
    seen_at: Option<Timestamp>,
    debits: u32,
    /// Deadlines of requests under way.
    hanging: Vec<Timestamp>,
}

impl Bank {
    /// Executes a request; outside the key window a bank may forget and pay twice.
    fn receive(&mut self, now: Timestamp) {
        let forgotten = self.seen_at.is_some_and(|at| now >= at + Duration::hours(24));
        if self.record.is_none() || forgotten {
            self.record = Some(Record::Accepted);
            self.seen_at = Some(now);
        }
    }

    fn decide(&mut self, pays: bool) {
        if self.record == Some(Record::Accepted) {
            self.record = Some(if pays { Record::Paid } else { Record::Rejected });
            self.debits += u32::from(pays);
        }
    }

    fn word(&self, missing: Reading) -> Reading {
        match self.record {
            None => missing,
            Some(Record::Accepted) => Reading::Accepted,
            Some(Record::Paid) => Reading::Completed { reference: "B1".into() },
            Some(Record::Rejected) => Reading::Rejected { reason: "closed".into() },
        }
    }
}

#[derive(Debug)]
struct Model {
    now: Timestamp,
    state: State,
    sent: Option<Sent>,
    bank: Bank,
    zombies: Vec<Timestamp>,
    held: i32,
    paid: i32,
    available: i32,
    dead: bool,
    waits: i32,
}

impl Model {
    fn new() -> Self {
        let bank = Bank::default();
        Self {
            now: T0,
            state: State::Requested,
            sent: None,
            bank,
            zombies: vec![],
            held: 1,
            paid: 0,
            available: 0,
            dead: false,
            waits: 0,
        }
    }

    /// Begin, as the verb does it: what it stores comes before the call.
    fn begin(&mut self, cleared: bool) -> Option<Call> {
        match next(self.state, None, self.sent.as_ref(), &CLEAR, cleared, self.now) {
            Step::SendFirst => self.sent = Some(Sent::begin(None, &TERMS, self.now)),
            Step::SendAgain => self.sent = Some(Sent::begin(self.sent.as_ref(), &TERMS, self.now)),
            Step::LookUp => return Some(Call::LookUp),
            Step::Cancel(_) | Step::Wait(_) | Step::Nothing => return None,
        }
        self.state = State::Processing;
        Some(Call::Send)
    }

    fn send(&mut self, wire: Wire) -> Option<Reading> {
        let lost = || Some(Reading::Unknown { why: "lost".into() });
        let deadline = self.sent.map_or(self.now, |sent| sent.deadline_at);
        match wire {
            Wire::Good | Wire::Blind => {
                self.bank.receive(self.now);
                Some(self.bank.word(Reading::Unknown { why: "".into() }))
            }
            Wire::AnswerLost => {
                self.bank.receive(self.now);
                lost()
            }
            Wire::RequestHangs => {
                self.bank.hanging.push(deadline);
                lost()
            }
            Wire::ConnectionRefused => Some(Reading::NotExecuted { why: "refused".into() }),
            Wire::Refuses => Some(Reading::Refused { reason: "invalid".into() }),
            Wire::CrashBeforeCall => {
                self.zombies.push(deadline);
                None
            }
            Wire::CrashAfterCall => {
                self.bank.receive(self.now);
                None
            }
        }
    }

    fn look_up(&self, wire: Wire) -> Option<Reading> {
        match wire {
            Wire::Good => Some(self.bank.word(Reading::NotFound { authoritative: true })),
            Wire::Blind => Some(Reading::NotFound { authoritative: false }),
            Wire::Refuses => Some(Reading::Refused { reason: "forbidden".into() }),
            Wire::ConnectionRefused => Some(Reading::NotExecuted { why: "refused".into() }),
            Wire::AnswerLost | Wire::RequestHangs => Some(Reading::Unknown { why: "lost".into() }),
            Wire::CrashBeforeCall | Wire::CrashAfterCall => None,
        }
    }

    fn attempt(&mut self, wire: Wire) {
        let mut cleared = false;
        for _ in 0..3 {
            let Some(call) = self.begin(cleared) else { return };
            let reading = match call {
                Call::Send => self.send(wire),
                Call::LookUp => self.look_up(wire),
            };
            let (Some(reading), Some(mut sent)) = (reading, self.sent) else { return };
            let (change, then) = after(&sent, call, &reading, self.waits, &TERMS, self.now);
            sent.apply(&change);
            self.sent = Some(sent);
            match change {
                Change::Complete { .. } => {
                    (self.state, self.held, self.paid) = (State::Completed, self.held - 1, self.paid + 1)
                }
                Change::Fail { .. } => {
                    (self.state, self.held, self.available) = (State::Failed, self.held - 1, self.available + 1);
                }
                Change::Nothing | Change::Unknown | Change::NotSent | Change::Accepted => {}
            }
            match then {
                Then::BeginCleared => cleared = true,
                Then::Job(Outcome::Dead { .. }) => return self.dead = true,
                Then::Job(Outcome::Later { .. }) => return self.waits += 1,
                Then::Job(_) => return,
            }
        }
    }

    fn play(&mut self, event: Event) {
        match event {
            Event::Attempt(wire) => self.attempt(wire),
            Event::Pass(seconds) => self.now += Duration::seconds(i64::from(seconds)),
            Event::BankDecides { pays } => self.bank.decide(pays),
            Event::LateArrival => {
                if self.bank.hanging.pop().is_some_and(|deadline| self.now < deadline) {
                    self.bank.receive(self.now);
                }
            }
            Event::ZombieSends => {
                // The worker looks at its deadline just before it calls.
                if self.zombies.pop().is_some_and(|deadline| self.now < deadline) {
                    self.bank.receive(self.now);
                }
            }
        }
    }

    /// At every moment: one bank debit at most, and no money ended against the bank's books.
    fn check(&self) {
        assert!(self.bank.debits <= 1, "paid twice: {self:?}");
        assert_eq!(self.held + self.paid + self.available, 1);
        if self.state == State::Completed {
            assert_eq!(self.bank.debits, 1, "{self:?}");
        }
        if self.state == State::Failed {
            assert_eq!(self.bank.debits, 0, "{self:?}");
            assert_ne!(self.bank.record, Some(Record::Accepted), "failed here, under way there: {self:?}");
        }
    }
}

fn wires() -> impl Strategy<Value = Wire> {
    prop_oneof![
        3 => Just(Wire::Good),
        3 => Just(Wire::AnswerLost),
        3 => Just(Wire::RequestHangs),
        2 => Just(Wire::ConnectionRefused),
        1 => Just(Wire::Refuses),
        2 => Just(Wire::Blind),
        2 => Just(Wire::CrashBeforeCall),
        2 => Just(Wire::CrashAfterCall),
    ]
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => wires().prop_map(Event::Attempt),
        3 => (0u32..40).prop_map(Event::Pass),
        1 => (3_600u32..200_000).prop_map(Event::Pass),
        1 => any::<bool>().prop_map(|pays| Event::BankDecides { pays }),
        2 => Just(Event::LateArrival),
        2 => Just(Event::ZombieSends),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn whatever_happens_the_bank_pays_once_and_the_books_agree(events in prop::collection::vec(events(), 0..40)) {
        let mut model = Model::new();
        for event in events {
            model.play(event);
            model.check();
        }
        // The faults stop and the worker drains: every payout has the bank's word, or a person has it.
        for _ in 0..12 {
            model.play(Event::Attempt(Wire::Good));
            model.play(Event::BankDecides { pays: true });
            model.play(Event::Pass(20));
            model.check();
        }
        match model.state {
            State::Completed => assert_eq!((model.bank.debits, model.paid), (1, 1)),
            State::Failed => assert_eq!((model.bank.debits, model.available), (0, 1)),
            State::Processing => {
                // Only a payment the bank never saw and whose key has expired may still be open, money held.
                let sent = model.sent.unwrap();
                assert!(model.bank.debits == 0 && model.held == 1 && model.now >= sent.key_expires_at, "{model:?}");
            }
            State::Requested | State::InReview | State::Returned | State::Cancelled => panic!("{model:?}"),
        }
    }
}
