//! Pure: all reports of one order, one after another.

use super::births::Births;
use crate::clock::Timestamp;
use crate::ids::ReportId;
use crate::networks::Network;
use crate::purchases::state::{Effect, fold};
use crate::purchases::{Order, Purchase, Report};
use crate::reports::store::Cause;

/// An order before and after its reports.
#[derive(Debug)]
pub(super) struct Folded {
    pub(super) order: Order,
    pub(super) before: Option<Purchase>,
    pub(super) after: Option<Purchase>,
    pub(super) effects: Vec<(ReportId, Effect)>,
    pub(super) waiting: Vec<(Report, Cause)>,
    /// Trace context of the last report that has one: what causes the next jobs.
    pub(super) traceparent: Option<String>,
}

impl Folded {
    /// Folds `reports` in the order given. Those that came before their purchase are folded right after its birth.
    pub(super) fn new(
        mut order: Order,
        before: Option<Purchase>,
        reports: &[Report],
        births: &Births,
        rules: &Network,
        now: Timestamp,
    ) -> Self {
        let mut after = before.clone();
        let mut effects = Vec::with_capacity(reports.len());
        let mut waiting: Vec<(Report, Cause)> = Vec::new();
        for report in reports {
            if let Some(purchase) = &mut after {
                effects.push((report.id, fold(&mut order, purchase, report, rules)));
                continue;
            }
            match births.purchase(report, now) {
                Err(cause) => waiting.push((report.clone(), cause)),
                Ok(mut purchase) => {
                    order.purchase = Some(purchase.id);
                    fold(&mut order, &mut purchase, report, rules);
                    effects.push((report.id, Effect::Applied));
                    for (earlier, _) in waiting.drain(..) {
                        effects.push((earlier.id, fold(&mut order, &mut purchase, &earlier, rules)));
                    }
                    after = Some(purchase);
                }
            }
        }
        let traceparent = reports.iter().rev().find_map(|report| report.traceparent.clone());
        Self { order, before, after, effects, waiting, traceparent }
    }

    /// Whether the purchase is new or changed.
    pub(super) fn changed(&self) -> bool {
        self.after.is_some() && self.before != self.after
    }
}
