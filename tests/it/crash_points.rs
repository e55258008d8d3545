//! No gap between two effects is without a crash point, as far as the sources tell. `stack crash-points` visits them.

use tests::crash_points::list::{Source, bare, points, sources};

/// Effects outside `torture::around`: how many in which file, and why that is right.
const BARE: [(&str, &str, usize, &str); 0] = [];

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
        if !found.contains_key(&(effect, path.to_owned())) {
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
