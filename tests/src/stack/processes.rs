//! Which processes are ours, on disk, so that `down` finds them even when the supervisor was killed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::processes::Identity;

/// A file of `name pid start` lines, replaced as a whole at every change.
#[derive(Debug, Clone)]
pub(super) struct Record(PathBuf);

impl Record {
    /// The record of a stack.
    pub(super) fn of(directory: &Path) -> Self {
        Self(directory.join("processes"))
    }

    /// Writes all of them.
    pub(super) fn write(&self, processes: &BTreeMap<&'static str, Identity>) -> Result<()> {
        let text: String = processes.iter().map(|(name, identity)| format!("{name} {identity}\n")).collect();
        let draft = self.0.with_extension("new");
        std::fs::write(&draft, text)?;
        Ok(std::fs::rename(&draft, &self.0)?)
    }

    /// Those that still live, by name.
    pub(super) fn alive(&self) -> BTreeMap<String, Identity> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let (name, identity) = line.split_once(' ')?;
                Some((name.to_owned(), identity.parse::<Identity>().ok()?))
            })
            .filter(|(_, identity)| identity.is_alive())
            .collect()
    }
}
