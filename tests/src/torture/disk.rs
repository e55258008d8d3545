//! A small disk of its own under PostgreSQL's data directory, so that it can be filled.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Room for a run and no more.
const SIZE: &str = "size=1g,mode=0700";

/// A mounted disk.
#[derive(Debug, Clone)]
pub(super) struct Disk(PathBuf);

impl Disk {
    /// Mounts an empty disk where PostgreSQL's data will be. None, with the reason: it is not permitted.
    ///
    /// # Errors
    /// When the place cannot be made.
    pub(super) fn mount(directory: &Path) -> Result<std::result::Result<Self, String>> {
        if std::fs::metadata("/proc/self")?.uid() != 0 {
            return Ok(Err("not root".to_owned()));
        }
        let place = place(directory);
        std::fs::create_dir_all(&place)?;
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(&place).output();
        Ok(match output {
            Ok(output) if output.status.success() => Ok(Self(place)),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("mount: {error}")),
        })
    }

    /// Takes a disk away that an earlier run may have left, or this one.
    ///
    /// # Errors
    /// When it is still in use.
    pub(super) fn unmount(directory: &Path) -> Result<()> {
        let place = place(directory);
        let mounts = std::fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
        if !mounts.lines().any(|line| line.split(' ').nth(1) == place.to_str()) {
            return Ok(());
        }
        let output = Command::new("umount").arg(&place).output()?;
        if !output.status.success() {
            bail!("{}: {}", place.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Writes a file until nothing fits any more.
    ///
    /// # Errors
    /// When it cannot be written for another reason.
    pub(super) fn fill(&self) -> Result<()> {
        let mut file = File::create(self.ballast())?;
        let block = vec![0_u8; 1 << 20];
        let mut size = block.len();
        while size > 0 {
            match file.write_all(block.get(..size).unwrap_or_default()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => size /= 2,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub(super) fn free(&self) -> Result<()> {
        match std::fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

fn place(directory: &Path) -> PathBuf {
    directory.join("postgres")
}
