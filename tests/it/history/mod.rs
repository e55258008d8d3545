//! The judge by history is judged: a sound run is found clean, and each fault planted into a copy of it is named.

mod plants;
mod town;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use plants::PLANTS;
use tests::history::judge::rules::ALL;

const AUDIT: &str = "the audit is clean";
const AT_REST: &str = "everything comes to rest";

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

    let (mut missed, mut audited) = (Vec::new(), 0);
    for (fault, rules, how) in PLANTS {
        let mut copy = run.copy().await?;
        how.plant(&mut copy).await.map_err(|error| error.context(*fault))?;
        let named: BTreeSet<&str> = run.judge(copy).await?.into_iter().map(|finding| finding.rule).collect();
        assert!(!rules.contains(&AUDIT), "{fault}: the audit alone is no proof");
        audited += usize::from(named.contains(AUDIT));
        for rule in rules.iter().filter(|rule| !named.contains(**rule)) {
            missed.push(format!("{fault}: \"{rule}\" is not among {named:?}"));
        }
    }
    assert_eq!(missed, Vec::<String>::new());
    assert!(audited > 10, "the audit names {audited} of them as well");

    let restless = run.copy().await?;
    let claimed = "UPDATE jobs SET claimed_by = gen_random_uuid() WHERE id = (SELECT id FROM jobs LIMIT 1)";
    assert_eq!(sqlx::query(claimed).execute(&restless.database.pool).await?.rows_affected(), 1);
    let found = run.wait_for_rest(restless).await?;
    assert!(found.iter().any(|finding| finding.rule == AT_REST), "{found:?}");
    Ok(())
}

#[test]
fn every_rule_has_a_fault_that_is_planted_against_it() {
    let planted: BTreeSet<&str> =
        PLANTS.iter().flat_map(|(_, rules, _)| *rules).copied().chain([AUDIT, AT_REST]).collect();
    let all: BTreeSet<&str> = ALL.iter().copied().collect();
    assert_eq!(all.len(), ALL.len(), "each rule has words of its own");
    assert_eq!(all.difference(&planted).collect::<Vec<_>>(), Vec::<&&str>::new(), "rules without a fault");
    assert_eq!(planted.difference(&all).collect::<Vec<_>>(), Vec::<&&str>::new(), "faults without a rule");
}
