//! CPU time by process, as Linux counts it.

#![expect(clippy::float_arithmetic, reason = "statistics, not money")]

use crate::processes::Identity;

/// Linux tells times in hundredths of a second, on every machine.
const TICKS_A_SECOND: f64 = 100.0;

/// Seconds of CPU a process has used with all its threads; with its children, those that have ended and those that
/// live. Zero when it has ended.
#[must_use]
pub fn seconds_of_tree(pid: u32) -> f64 {
    let children = Identity::of(pid).map(Identity::children).unwrap_or_default();
    children.iter().map(|child| seconds_of_tree(child.pid)).sum::<f64>() + seconds(pid)
}

/// Of one process, with its children that have ended.
fn seconds(pid: u32) -> f64 {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0.0 };
    // Behind the name in parentheses, which may hold spaces, the four times are fields 12 to 15.
    let times = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11).take(4);
    times.filter_map(|time| time.parse::<f64>().ok()).sum::<f64>() / TICKS_A_SECOND
}
