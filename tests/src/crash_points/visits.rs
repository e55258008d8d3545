//! Which points were visited: a file each, made by the process that died there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::list;

/// The points there are, and the directory that tells which were visited.
#[derive(Debug, Clone)]
pub(super) struct Visits {
    directory: PathBuf,
    points: BTreeSet<String>,
}

impl Visits {
    /// None visited yet.
    ///
    /// # Errors
    /// When the sources cannot be read or the directory cannot be made.
    pub(super) fn begin(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        let points = list::points(&list::sources()?).into_keys().collect();
        Ok(Self { directory: directory.to_owned(), points })
    }

    /// Where the processes leave their marks.
    #[must_use]
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where some process died.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(super) fn visited(&self) -> Result<BTreeSet<String>> {
        let entries = std::fs::read_dir(&self.directory)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    /// Where none did yet.
    ///
    /// # Errors
    /// As [`Visits::visited`].
    pub(super) fn missing(&self) -> Result<BTreeSet<String>> {
        Ok(self.points.difference(&self.visited()?).cloned().collect())
    }

    /// Whether a point of one of these names is missing still.
    ///
    /// # Errors
    /// As [`Visits::visited`].
    pub(super) fn want(&self, names: &[&str]) -> Result<bool> {
        let missing = self.missing()?;
        Ok(missing.iter().any(|point| point.split_once(':').is_some_and(|(name, _)| names.contains(&name))))
    }
}
