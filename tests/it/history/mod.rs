//! The judge by history is judged: a sound run is found clean, and each fault planted into a copy of it is named.

mod plants;
mod town;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use plants::PLANTS;

const AUDIT: &str = "the audit is clean";

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_run_is_found_clean_and_each_planted_fault_is_named() -> Result<()> {
    let run = town::run(Duration::from_secs(10)).await?;
    assert_eq!(run.driven.faults, Vec::<String>::new());
    assert_eq!(run.findings, Vec::new());
    assert_eq!((run.driven.unknown, run.driven.internal_errors), (0, 0));
    for kind in
        ["delivery", "purchase", "confirmation", "reversal", "payout request", "flag", "sign-in", "bank account"]
    {
        assert!(run.driven.acknowledged.contains_key(kind), "{kind}: {:?}", run.driven);
    }
    assert!(run.driven.absorbed > 0);
    let untouched = run.copy().await?;
    assert_eq!(run.judge(untouched).await?, Vec::new(), "a copy is as sound");

    let mut missed = Vec::new();
    for (fault, rules, how) in PLANTS {
        let mut copy = run.copy().await?;
        how.plant(&mut copy).await.map_err(|error| error.context(*fault))?;
        let named: BTreeSet<&str> = run.judge(copy).await?.into_iter().map(|finding| finding.rule).collect();
        assert!(!rules.contains(&AUDIT), "{fault}: the audit alone is no proof");
        for rule in rules.iter().filter(|rule| !named.contains(**rule)) {
            missed.push(format!("{fault}: \"{rule}\" is not among {named:?}"));
        }
    }
    assert_eq!(missed, Vec::<String>::new());
    Ok(())
}
