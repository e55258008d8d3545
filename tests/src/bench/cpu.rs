//! CPU time by process, as Linux counts it.

#![expect(clippy::float_arithmetic, reason = "statistics, not money")]

use std::collections::HashMap;

/// Linux tells times in hundredths of a second, on every machine.
const TICKS_A_SECOND: f64 = 100.0;

/// What every process of this machine has used, at one moment.
#[derive(Debug, Default)]
pub struct Times(HashMap<u32, Used>);

#[derive(Debug)]
struct Used {
    parent: u32,
    /// By itself.
    own: f64,
    /// By those of its children that have ended.
    ended: f64,
}

impl Times {
    /// Of now.
    #[must_use]
    pub fn read() -> Self {
        let Ok(all) = std::fs::read_dir("/proc") else { return Self::default() };
        let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        Self(pids.filter_map(|pid| Some((pid, used(pid)?))).collect())
    }

    /// A process with all its threads. Zero when it has ended.
    #[must_use]
    pub fn of_one(&self, pid: u32) -> f64 {
        self.0.get(&pid).map_or(0.0, |used| used.own)
    }

    /// A process and its children, those that have ended and those that live.
    #[must_use]
    pub fn of_tree(&self, pid: u32) -> f64 {
        let children = self.0.iter().filter(|(_, used)| used.parent == pid).map(|(child, _)| self.of_tree(*child));
        children.sum::<f64>() + self.0.get(&pid).map_or(0.0, |used| used.own + used.ended)
    }
}

/// Seconds of CPU a process and its children have used so far.
#[must_use]
pub fn seconds_of_tree(pid: u32) -> f64 {
    Times::read().of_tree(pid)
}

fn used(pid: u32) -> Option<Used> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name in parentheses, which may hold spaces, the parent is field 2 and the four times are fields 12 to 15.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let mut time = fields.skip(9).map(|field| field.parse::<f64>().unwrap_or_default() / TICKS_A_SECOND);
    let mut both = || time.next().unwrap_or_default() + time.next().unwrap_or_default();
    Some(Used { parent, own: both(), ended: both() })
}

/// User and system time out of a line of the shell's `times`: `0m1.23s 0m0.45s`.
#[must_use]
pub fn seconds_of_times(line: &str) -> f64 {
    let time = |text: &str| {
        let (minutes, seconds) = text.strip_suffix('s')?.split_once('m')?;
        Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
    };
    line.split_whitespace().filter_map(time).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_used_what_its_members_have() {
        let used = |parent, own, ended| Used { parent, own, ended };
        let times = Times(HashMap::from([(1, used(0, 1.0, 2.0)), (2, used(1, 4.0, 0.0)), (3, used(2, 8.0, 0.0))]));
        assert!((times.of_one(1) - 1.0).abs() < 1e-9);
        assert!((times.of_tree(1) - 15.0).abs() < 1e-9);
        assert!(times.of_tree(9).abs() < 1e-9);
    }

    #[test]
    fn this_process_is_there() {
        let here = Times::read();
        assert!(here.0.contains_key(&std::process::id()));
    }
}
