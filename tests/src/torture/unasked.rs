//! What our processes did by themselves: an end that no fault explains, or a panic. Both heal, and neither may happen.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use super::plan::roles;

/// Reads the logs of a run: the supervisor's for ends beyond those that were `asked` for, everybody's for panics.
///
/// # Errors
/// When they cannot be read.
pub(super) fn look(logs: &Path, asked: &BTreeMap<&'static str, usize>) -> Result<Vec<String>> {
    let read = |name: &str| {
        let path = logs.join(format!("{name}.log"));
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        anyhow::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let mut found = ends(&read("supervisor")?, asked);
    for role in roles() {
        found.extend(panics(&read(role)?).map(|line| format!("{role}: {line}")));
    }
    Ok(found)
}

fn ends(log: &str, asked: &BTreeMap<&'static str, usize>) -> Vec<String> {
    let mut found = Vec::new();
    for role in roles() {
        let ended: Vec<&str> = log.lines().filter(|line| line.starts_with(&format!("{role} ended after "))).collect();
        let asked = asked.get(role).copied().unwrap_or_default();
        if ended.len() > asked {
            found.push(format!("{role} ended {} times and was made to {asked} times", ended.len()));
        }
        found.extend(ended.into_iter().filter(|line| has_failed(line)).map(str::to_owned));
    }
    found
}

/// It ended by itself, with another code than 0.
fn has_failed(line: &str) -> bool {
    line.contains("(ByItself(") && !line.contains("(ByItself(Some(0)))")
}

fn panics(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter(|line| line.starts_with("thread '") && line.contains(" panicked at "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "confirm ended after 812 ms (Killed), starting it again\n\
        confirm2 ended after 9 ms (Killed), starting it again\n\
        redis ended after 12 ms (ByItself(Some(1))), starting it again\n\
        confirm ended after 31 ms (ByItself(Some(0))), starting it again\n";

    #[test]
    fn an_end_that_nobody_asked_for_is_found() {
        let asked = BTreeMap::from([("confirm", 2), ("confirm2", 1), ("redis", 0)]);
        assert!(ends(LOG, &asked).is_empty());
        let fewer = BTreeMap::from([("confirm", 1), ("confirm2", 1)]);
        assert_eq!(ends(LOG, &fewer), ["confirm ended 2 times and was made to 1 times"]);
        let failed = format!("{LOG}mature ended after 5 ms (ByItself(Some(101))), starting it again\n");
        let asked = BTreeMap::from([("confirm", 2), ("confirm2", 1), ("mature", 1)]);
        assert_eq!(ends(&failed, &asked), ["mature ended after 5 ms (ByItself(Some(101))), starting it again"]);
    }

    #[test]
    fn a_panic_is_found() {
        let log = "{\"level\":\"INFO\"}\nthread 'tokio-rt-worker' (12) panicked at worker/src/run.rs:1:2:\nboom\n";
        assert_eq!(panics(log).count(), 1);
        assert_eq!(panics("a line that says panicked at noon").count(), 0);
    }
}
