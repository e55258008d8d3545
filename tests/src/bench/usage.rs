//! CPU seconds of a stack, by process.

use std::collections::BTreeMap;

use super::cpu::Times;
use crate::processes::Identity;
use crate::stack::of_role;

/// CPU seconds by process; two of one program count together.
#[derive(Debug, Clone, Default)]
pub struct Usage(BTreeMap<String, f64>);

impl Usage {
    /// What `processes` and this one, who is the client, have used so far.
    #[must_use]
    #[expect(clippy::float_arithmetic, reason = "seconds, no money")]
    pub fn read(processes: &BTreeMap<String, Identity>) -> Self {
        let times = Times::read();
        let mut all = BTreeMap::from([("client".to_owned(), times.of_one(std::process::id()))]);
        // The supervisor only waits, and everybody else is its child.
        for (name, identity) in processes.iter().filter(|(name, _)| *name != "supervisor") {
            *all.entry(of_role(name).to_owned()).or_default() += times.of_tree(identity.pid);
        }
        Self(all)
    }

    /// Milliseconds for each of `items` since `before`, by process; those that used nothing are left out.
    #[must_use]
    #[expect(clippy::float_arithmetic, reason = "milliseconds, no money")]
    pub fn milliseconds_since(&self, before: &Self, items: usize) -> BTreeMap<String, f64> {
        let since = |(name, now): (&String, &f64)| {
            let used = now - before.0.get(name).copied().unwrap_or_default();
            (used > 0.0).then(|| (name.clone(), used * 1_000.0 / items.max(1) as f64))
        };
        self.0.iter().filter_map(since).collect()
    }
}
