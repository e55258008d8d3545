//! No gap between two effects is without a crash point, as far as the sources tell. `stack crash-points` visits them.

use tests::crash_points::list::{Source, bare, points, sources};

/// Effects outside `torture::around`: how many in which file, and why that is right.
const BARE: &[(&str, &str, usize, &str)] = &[
    (".acquire()", "api/src/extract/identity.rs", 1, "reads"),
    (".acquire()", "api/src/routes.rs", 1, "a turn to ask, no connection"),
    (".acquire()", "api/src/v1/account.rs", 1, "reads"),
    (".acquire()", "api/src/v1/account_mail.rs", 1, "reads"),
    (".acquire()", "api/src/v1/auth.rs", 1, "reads"),
    (".acquire()", "api/src/v1/bank_account.rs", 1, "reads"),
    (".acquire()", "api/src/v1/flags.rs", 2, "reads"),
    (".acquire()", "api/src/v1/merchants.rs", 2, "reads"),
    (".acquire()", "api/src/v1/offers.rs", 3, "reads"),
    (".acquire()", "api/src/v1/payouts.rs", 1, "reads"),
    (".acquire()", "api/src/v1/payouts_admin.rs", 1, "reads"),
    (".acquire()", "api/src/v1/purchases/lists.rs", 3, "reads"),
    (".acquire()", "api/src/v1/users.rs", 2, "reads"),
    (".acquire()", "api/src/v1/wallet.rs", 2, "reads"),
    (".acquire()", "shared/src/intake/matching.rs", 1, "reads"),
    (".acquire()", "shared/src/networks/snapshot.rs", 1, "reads"),
    (".acquire()", "shared/src/original/import.rs", 3, "reads, and a lock that ends with its connection"),
    (".acquire()", "shared/src/retention.rs", 1, "what follows on it is between points of its callers"),
    (".acquire()", "shared/src/users/proof.rs", 2, "reads"),
    (".acquire()", "worker/src/cli/audit.rs", 3, "reads"),
    (".acquire()", "worker/src/cli/deliveries.rs", 2, "reads"),
    (".acquire()", "worker/src/cli/explain.rs", 1, "reads"),
    (".acquire()", "worker/src/cli/jobs.rs", 1, "reads"),
    (".acquire()", "worker/src/cli/payouts.rs", 2, "reads"),
    (".acquire()", "worker/src/cli/retention.rs", 1, "reads"),
    (".acquire()", "worker/src/cron.rs", 4, "what follows on each is between points"),
    (
        ".acquire()",
        "worker/src/dispatch.rs",
        6,
        "reads; and marks, rates, rescues and cron entries, with points where they change something",
    ),
    (".acquire()", "worker/src/feed.rs", 1, "what follows on it is between points"),
    (".acquire()", "worker/src/notify/stage.rs", 1, "reads"),
    (".acquire()", "worker/src/payout/statement.rs", 4, "reads; what is noted is between points"),
    (".acquire()", "worker/src/runtime.rs", 1, "reads; what is given back is between points"),
    ("(&state.pool)", "api/src/routes.rs", 1, "reads"),
    (".fetch_all(pool)", "shared/src/auditor/resume.rs", 2, "reads"),
    (".fetch_all(pool)", "worker/src/cli/networks.rs", 1, "reads"),
    (".fetch_one(pool)", "shared/src/auditor/epoch.rs", 1, "reads"),
    (".look_up(", "shared/src/payouts/begin.rs", 1, "decides on it, does not call"),
    (".query_async", "shared/src/jobs/redis.rs", 1, "runs what its callers put between points"),
    (".query_async", "worker/src/cli/check.rs", 3, "reads"),
    (".query_async", "worker/src/feed.rs", 2, "a pop, with a point where it has taken something; and a length"),
    ("self.0.run", "shared/src/jobs/redis.rs", 3, "lengths and counts; a push, between points in its caller"),
];

#[test]
fn every_effect_is_between_points() {
    let found = bare(&sources().unwrap());
    let mut wrong = Vec::new();
    for ((effect, path), count) in &found {
        let known = BARE.iter().find(|(known, file, ..)| known == effect && file == path).map_or(0, |known| known.2);
        if known != *count {
            wrong.push(format!("{path}: {count} × `{effect}` outside torture::around or db::commit, expected {known}"));
        }
    }
    for (effect, path, ..) in BARE {
        if !found.keys().any(|(known, file)| known == effect && file == path) {
            wrong.push(format!("{path}: `{effect}` is gone; take it out of the list"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_point_has_a_name_of_its_own() {
    let points = points(&sources().unwrap());
    assert!(points.len() > 100, "the sources are not read: {} points", points.len());
    for (point, count) in &points {
        assert_eq!(*count, 1, "{point} stands in two places");
        let (name, when) = point.split_once(':').unwrap();
        let (area, verb) = name.split_once('.').unwrap();
        for word in [area, verb, when] {
            assert!(!word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{point}");
        }
    }
}

#[test]
fn an_effect_without_points_is_found() {
    let text = r#"
        async fn some(tx: Tx<'_>) {
            // tx.commit() in a comment is none.
            torture::around("a.b", tx.commit()).await?;
            let later = async { change(&mut *pool.acquire().await?).await };
            torture::around("c.d", later).await?;
            tx.commit().await?;
            pool.acquire()
                .await?;
        }
        #[cfg(test)]
        mod tests { fn it() { tx.commit(); } }
    "#;
    let source = [Source::new("some.rs".to_owned(), text)];
    let found: Vec<_> = bare(&source).into_iter().map(|((effect, _), count)| (effect, count)).collect();
    assert_eq!(found, [(".acquire()", 1), (".commit()", 1)]);
    assert_eq!(points(&source).into_keys().collect::<Vec<_>>(), ["a.b:after", "a.b:before", "c.d:after", "c.d:before"]);
}
