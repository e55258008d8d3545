//! The two protocols that money hangs on, explored exhaustively at a small size (docs/RELIABILITY.md, "Models").
//!
//! What decides is production's own code: [`shared::jobs::verdict`] and [`shared::payouts::state`]. What production
//! decides in SQL is mirrored in [`rows`], statement by statement, and [`conformance`] holds the mirror against
//! PostgreSQL. Each model is also built wrong on purpose, and the property that must notice does.

#![expect(clippy::print_stdout, reason = "the counts belong into the record of a run")]

mod conformance;
mod jobs;
mod payouts;
mod rows;

use stateright::{Checker, CheckerBuilder, HasDiscoveries, Model};

/// Explores everything there is and says how much that was.
fn explore<M>(name: &str, model: M) -> usize
where
    M: Model + Send + Sync + 'static,
    M::State: std::fmt::Debug + std::hash::Hash + Clone + Send + Sync + PartialEq + 'static,
    M::Action: std::fmt::Debug + Clone + PartialEq + Send + Sync,
{
    let checker = builder(model).spawn_bfs().join();
    println!(
        "{name}: {} unique states, {} steps, depth {}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
    checker.unique_state_count()
}

/// A model that is wrong on purpose: this property must notice. Prints how.
fn expect_broken<M>(name: &str, model: M, property: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: std::fmt::Debug + std::hash::Hash + Clone + Send + Sync + PartialEq + 'static,
    M::Action: std::fmt::Debug + Clone + PartialEq + Send + Sync,
{
    let checker = builder(model).finish_when(HasDiscoveries::AllOf([property].into())).spawn_bfs().join();
    let found = checker.discovery(property).unwrap_or_else(|| panic!("{name}: \"{property}\" noticed nothing"));
    println!("{name}: \"{property}\" is broken by {:?}", found.into_actions());
}

fn builder<M>(model: M) -> CheckerBuilder<M>
where
    M: Model + Send + Sync + 'static,
    M::State: std::hash::Hash + Send + Sync,
{
    model.checker().threads(2)
}
