//! The clocks of our processes, each behind a file of seconds that are added to the machine's clock.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::RngExt;
use rand::rngs::StdRng;

use super::plan::roles;
use crate::stack::Install;

/// The farthest a clock goes, in seconds.
pub(super) const FARTHEST: i64 = 3 * 3_600;
/// Of api's clock: networks sign the time, and five minutes are tolerated.
const FARTHEST_OF_API: i64 = 240;

/// Draws by how many seconds a clock is wrong: minutes or hours, forward or back.
pub(super) fn jump(dice: &mut StdRng, role: &str) -> i64 {
    let farthest = match (role, dice.random_range(0..2)) {
        ("api", _) => FARTHEST_OF_API,
        (_, 0) => FARTHEST_OF_API * 4,
        _ => FARTHEST,
    };
    let seconds = dice.random_range(30..=farthest);
    if dice.random() { seconds } else { -seconds }
}

/// One file for each process of ours.
#[derive(Debug)]
pub(super) struct Clocks(PathBuf);

impl Clocks {
    /// All right at first; tells the processes where to look.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub(super) fn set_up(directory: &Path, install: &mut Install) -> Result<Self> {
        let new = Self(directory.join("clocks"));
        std::fs::create_dir_all(&new.0)?;
        new.set_all(0)?;
        for role in roles() {
            let file = new.0.join(role).display().to_string();
            install.extra.entry(role.to_owned()).or_default().insert("CLOCK_OFFSET_FILE".to_owned(), file);
        }
        Ok(new)
    }

    /// Makes a clock wrong by so many seconds.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn set(&self, role: &str, seconds: i64) -> Result<()> {
        // As a whole, so that no half number is read.
        let draft = self.0.join(format!("{role}.new"));
        std::fs::write(&draft, seconds.to_string())?;
        std::fs::rename(&draft, self.0.join(role)).with_context(|| format!("the clock of {role}"))
    }

    /// Makes all clocks wrong by as much.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) fn set_all(&self, seconds: i64) -> Result<()> {
        roles().into_iter().try_for_each(|role| self.set(role, seconds))
    }
}
