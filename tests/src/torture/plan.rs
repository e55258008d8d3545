//! What is broken, when and for how long: drawn from the seed before anything begins.

use std::time::Duration;

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::wiring::{Link, links};
use crate::stack::{OURS, SECOND};
use crate::wire::Direction;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Kind {
    /// `kill -9` of a process of ours, of PostgreSQL with all its processes, or of Redis; some are held down a while
    Kill,
    /// SIGSTOP for longer than it takes to be taken for dead, then SIGCONT
    Stop,
    /// SIGTERM of one process of ours
    Terminate,
    /// SIGTERM of all processes of ours, one after another
    RollingRestart,
    /// PostgreSQL ended at once (SIGQUIT)
    EndPostgres,
    /// FLUSHALL
    FlushRedis,
    /// Redis restored from a copy of some seconds ago
    RestoreRedis,
    /// Redis without memory (noeviction)
    FillRedis,
    /// PostgreSQL without disk space
    FillDisk,
    /// The clock of a process goes forward or back
    JumpClock,
    /// A wire with latency and jitter
    Slow,
    /// All connections of a wire reset
    Reset,
    /// A wire that resets everything, for a while
    Cut,
    /// A wire that accepts and passes nothing, for a while
    BlackHole,
    /// One direction of a wire's connections swallowed for ever
    HalfOpen,
}

impl Kind {
    /// The word on the command line and in reports.
    #[must_use]
    pub fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// How many of the deck's cards of other faults than kills are of this kind.
    fn cards(self) -> usize {
        match self {
            Self::Kill => 0,
            Self::RollingRestart | Self::EndPostgres | Self::RestoreRedis | Self::FillRedis | Self::FillDisk => 1,
            Self::Stop | Self::Terminate | Self::FlushRedis | Self::JumpClock | Self::Cut | Self::HalfOpen => 2,
            Self::Slow | Self::BlackHole => 3,
            Self::Reset => 4,
        }
    }
}

/// What a process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Target {
    /// A process of ours.
    Role(&'static str),
    /// With all its processes.
    Postgres,
    Redis,
}

impl Target {
    /// Its name in the stack.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Role(name) => name,
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }

    /// The deck kills are dealt from: servers more often than one of our processes.
    fn deck() -> Vec<Self> {
        let ours = roles().into_iter().map(Self::Role);
        ours.clone().chain(ours).chain([Self::Postgres; 3]).chain([Self::Redis; 3]).collect()
    }
}

/// All processes of ours.
pub(super) fn roles() -> Vec<&'static str> {
    OURS.into_iter().chain(SECOND).collect()
}

/// What is done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    /// Held down afterwards for as long as the fault lasts.
    Kill(Target),
    Stop(&'static str),
    Terminate(&'static str),
    RollingRestart,
    EndPostgres,
    FlushRedis,
    /// The copy is as old as the fault lasts.
    RestoreRedis,
    FillRedis,
    FillDisk,
    JumpClock {
        role: &'static str,
        seconds: i64,
    },
    Slow {
        link: Link,
        latency: Duration,
        jitter: Duration,
    },
    Reset(Link),
    Cut(Link),
    BlackHole(Link),
    HalfOpen(Link, Direction),
}

impl Fault {
    /// Its kind.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Kill(_) => Kind::Kill,
            Self::Stop(_) => Kind::Stop,
            Self::Terminate(_) => Kind::Terminate,
            Self::RollingRestart => Kind::RollingRestart,
            Self::EndPostgres => Kind::EndPostgres,
            Self::FlushRedis => Kind::FlushRedis,
            Self::RestoreRedis => Kind::RestoreRedis,
            Self::FillRedis => Kind::FillRedis,
            Self::FillDisk => Kind::FillDisk,
            Self::JumpClock { .. } => Kind::JumpClock,
            Self::Slow { .. } => Kind::Slow,
            Self::Reset(_) => Kind::Reset,
            Self::Cut(_) => Kind::Cut,
            Self::BlackHole(_) => Kind::BlackHole,
            Self::HalfOpen(..) => Kind::HalfOpen,
        }
    }
}

/// A fault of the plan.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned {
    /// After the beginning.
    pub(super) at: Duration,
    /// What.
    pub(super) fault: Fault,
    /// For how long, where it is not over at once.
    pub(super) lasts: Duration,
}

/// How much is to be broken.
#[derive(Debug, Clone)]
pub(super) struct Measure {
    pub(super) seed: u64,
    /// From the first fault to the last one.
    pub(super) during: Duration,
    /// Processes killed.
    pub(super) kills: usize,
    /// The kinds that may be drawn.
    pub(super) kinds: Vec<Kind>,
}

/// Three other faults for two kills.
const OTHERS_PER_TWO_KILLS: usize = 3;
/// Silence after which a process is taken for dead is eight seconds; a stop lasts longer.
const STOPPED_MS: std::ops::Range<u64> = 9_000..14_000;

/// Draws the plan. All kinds are dealt in turn, so that a long run has them all; moments are drawn freely, so that they
/// overlap.
pub(super) fn draw(measure: &Measure) -> Vec<Planned> {
    let mut dice = StdRng::seed_from_u64(measure.seed ^ 0x746f_7274_7572_6521);
    let kills = if measure.kinds.contains(&Kind::Kill) { measure.kills } else { 0 };
    let mut plan: Vec<Planned> = deal(&mut dice, &Target::deck(), kills)
        .into_iter()
        .map(|target| Planned {
            at: moment(&mut dice, measure.during),
            lasts: held_down(&mut dice),
            fault: Fault::Kill(target),
        })
        .collect();
    let deck: Vec<Kind> = measure.kinds.iter().flat_map(|kind| vec![*kind; kind.cards()]).collect();
    for kind in deal(&mut dice, &deck, measure.kills * OTHERS_PER_TWO_KILLS / 2) {
        let (fault, lasts) = choose(&mut dice, kind);
        plan.push(Planned { at: moment(&mut dice, measure.during), fault, lasts });
    }
    plan.sort_by_key(|planned| planned.at);
    plan
}

/// `count` cards: the whole deck shuffled, again and again.
fn deal<T: Copy>(dice: &mut StdRng, deck: &[T], count: usize) -> Vec<T> {
    let mut dealt = Vec::with_capacity(count);
    while dealt.len() < count && !deck.is_empty() {
        let mut shuffled = deck.to_vec();
        shuffled.shuffle(dice);
        shuffled.truncate(count - dealt.len());
        dealt.extend(shuffled);
    }
    dealt
}

fn moment(dice: &mut StdRng, during: Duration) -> Duration {
    Duration::from_millis(dice.random_range(0..millis(during).max(1)))
}

/// One kill in five is followed by some seconds during which the process does not come back.
fn held_down(dice: &mut StdRng) -> Duration {
    if dice.random_range(0..5) == 0 { between(dice, 1_000..6_000) } else { Duration::ZERO }
}

fn choose(dice: &mut StdRng, kind: Kind) -> (Fault, Duration) {
    let role = pick(dice, &roles());
    let link = pick(dice, &links());
    match kind {
        Kind::Kill => (Fault::Kill(Target::Role(role)), Duration::ZERO),
        Kind::Stop => (Fault::Stop(role), between(dice, STOPPED_MS)),
        Kind::Terminate => (Fault::Terminate(role), Duration::ZERO),
        Kind::RollingRestart => (Fault::RollingRestart, Duration::ZERO),
        Kind::EndPostgres => (Fault::EndPostgres, Duration::ZERO),
        Kind::FlushRedis => (Fault::FlushRedis, Duration::ZERO),
        Kind::RestoreRedis => (Fault::RestoreRedis, between(dice, 5_000..30_000)),
        Kind::FillRedis => (Fault::FillRedis, between(dice, 1_000..6_000)),
        Kind::FillDisk => (Fault::FillDisk, between(dice, 2_000..6_000)),
        Kind::JumpClock => {
            (Fault::JumpClock { role, seconds: super::clocks::jump(dice, role) }, between(dice, 3_000..20_000))
        }
        Kind::Slow => {
            let (latency, jitter) = (between(dice, 10..150), between(dice, 0..100));
            (Fault::Slow { link, latency, jitter }, between(dice, 2_000..12_000))
        }
        Kind::Reset => (Fault::Reset(link), Duration::ZERO),
        Kind::Cut => (Fault::Cut(link), between(dice, 500..6_000)),
        Kind::BlackHole => (Fault::BlackHole(link), between(dice, 1_000..12_000)),
        Kind::HalfOpen => (Fault::HalfOpen(link, pick(dice, &[Direction::There, Direction::Back])), Duration::ZERO),
    }
}

fn between(dice: &mut StdRng, millis: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(dice.random_range(millis))
}

#[expect(clippy::indexing_slicing, reason = "the place is drawn below the length, and nothing is picked from nothing")]
fn pick<T: Copy>(dice: &mut StdRng, from: &[T]) -> T {
    from[dice.random_range(0..from.len())]
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn measure(seed: u64) -> Measure {
        let kinds = Kind::value_variants().to_vec();
        Measure { seed, during: Duration::from_secs(900), kills: 200, kinds }
    }

    #[test]
    fn a_seed_draws_one_plan_with_as_many_kills_as_were_asked_for() {
        let plan = draw(&measure(7));
        assert_eq!(plan, draw(&measure(7)));
        assert_ne!(plan, draw(&measure(8)));
        assert!(plan.is_sorted_by_key(|planned| planned.at));
        assert!(plan.iter().all(|planned| planned.at < Duration::from_secs(900)));
        let count = |kind| plan.iter().filter(|planned| planned.fault.kind() == kind).count();
        assert_eq!(count(Kind::Kill), 200);
        assert_eq!(plan.len(), 500);
        for kind in Kind::value_variants() {
            assert!(count(*kind) >= 10, "{kind:?}: {}", count(*kind));
        }
        let killed: BTreeSet<Target> = plan
            .iter()
            .filter_map(|planned| match planned.fault {
                Fault::Kill(target) => Some(target),
                _ => None,
            })
            .collect();
        assert_eq!(killed.len(), roles().len() + 2);
        assert!(plan.iter().all(|planned| match planned.fault {
            Fault::Stop(_) => planned.lasts > Duration::from_secs(8),
            _ => true,
        }));
    }

    #[test]
    fn only_what_was_asked_for_is_drawn() {
        let plan = draw(&Measure { kills: 20, kinds: vec![Kind::FlushRedis], ..measure(1) });
        assert_eq!(plan.len(), 30);
        assert!(plan.iter().all(|planned| planned.fault == Fault::FlushRedis));
        let kills = draw(&Measure { kills: 20, kinds: vec![Kind::Kill], ..measure(1) });
        assert!(kills.len() == 20 && kills.iter().all(|planned| planned.fault.kind() == Kind::Kill));
    }
}
