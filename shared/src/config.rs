//! Settings come from the environment. `NAME_FILE` names a file that holds the value of `NAME` (secrets).

use std::path::PathBuf;

/// A setting that is missing or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither `NAME` nor `NAME_FILE` is set.
    #[error("{0} is not set (nor {0}_FILE)")]
    Missing(&'static str),
    /// The file that `NAME_FILE` points at cannot be read.
    #[error("{name}_FILE: {path} cannot be read")]
    Unreadable {
        /// Which setting.
        name: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The value is not of the setting's kind. The value itself is not shown: it may be a secret.
    #[error("{name}: {expected} expected")]
    Invalid {
        /// Which setting.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
    },
}

/// The value of `name`, from the environment or from the file that `{name}_FILE` names; none when unset or empty.
///
/// # Errors
/// [`ConfigError::Unreadable`] when the file cannot be read.
pub fn optional(name: &'static str) -> Result<Option<String>, ConfigError> {
    if let Ok(value) = std::env::var(name) {
        return Ok(Some(value).filter(|value| !value.is_empty()));
    }
    let Some(path) = std::env::var_os(format!("{name}_FILE")).map(PathBuf::from) else { return Ok(None) };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim_end().to_owned()).filter(|value| !value.is_empty())),
        Err(source) => Err(ConfigError::Unreadable { name, path, source }),
    }
}

/// As [`optional`], but it must be there.
///
/// # Errors
/// [`ConfigError`] when it is missing or unreadable.
pub fn required(name: &'static str) -> Result<String, ConfigError> {
    optional(name)?.ok_or(ConfigError::Missing(name))
}

/// A setting of any type that reads itself from text, with a default.
///
/// # Errors
/// [`ConfigError`] when it is unreadable or not of that type.
pub fn parsed<T: std::str::FromStr>(name: &'static str, expected: &'static str, default: T) -> Result<T, ConfigError> {
    match optional(name)? {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| ConfigError::Invalid { name, expected }),
    }
}

/// A number with a default and a smallest value.
///
/// # Errors
/// As [`parsed`]; also when it is smaller.
pub fn at_least<T: std::str::FromStr + PartialOrd>(name: &'static str, least: T, default: T) -> Result<T, ConfigError> {
    let value = parsed(name, "a whole number", default)?;
    if value < least { Err(ConfigError::Invalid { name, expected: "a larger number" }) } else { Ok(value) }
}
