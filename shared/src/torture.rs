//! Crash points: named places between two effects at which the harness can tell a process to die.
//!
//! A process with `CRASH_POINTS_DIR` aborts when it is the first of all processes to come to a point; a file of that name
//! in the directory says that somebody was there. Without the feature `torture`, which only the harness asks for, nothing
//! of this is compiled and no variable is read.

use std::future::Future;

/// Makes an effect that others can see, such as a commit, a push or a call, with the points `name:before` and
/// `name:after` around it.
pub fn around<F: Future>(name: &'static str, effect: F) -> impl Future<Output = F::Output> {
    #[cfg(feature = "torture")]
    let effect = async move {
        armed::visit(name, "before");
        let done = effect.await;
        armed::visit(name, "after");
        done
    };
    #[cfg(not(feature = "torture"))]
    let _ = name;
    effect
}

/// The point `name:when`, for what [`around`] cannot say: an effect that is sometimes none.
pub fn point(name: &'static str, when: &'static str) {
    #[cfg(feature = "torture")]
    armed::visit(name, when);
    #[cfg(not(feature = "torture"))]
    let _ = (name, when);
}

/// By how many microseconds the machine's clock errs: the seconds in the file `CLOCK_OFFSET_FILE` names, if it names
/// one; without the feature always zero.
pub(crate) fn clock_offset() -> i64 {
    #[cfg(feature = "torture")]
    return offset::micros();
    #[cfg(not(feature = "torture"))]
    0
}

#[cfg(feature = "torture")]
mod armed {
    use std::collections::HashSet;
    use std::fs::OpenOptions;
    use std::io::ErrorKind;
    use std::path::PathBuf;
    use std::sync::{LazyLock, Mutex, PoisonError};

    static DIRECTORY: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("CRASH_POINTS_DIR").map(PathBuf::from));
    static VISITED: LazyLock<Mutex<HashSet<(&'static str, &'static str)>>> = LazyLock::new(Mutex::default);

    /// Dies here if nobody has before.
    pub(super) fn visit(name: &'static str, when: &'static str) {
        let Some(directory) = &*DIRECTORY else { return };
        if !VISITED.lock().unwrap_or_else(PoisonError::into_inner).insert((name, when)) {
            return;
        }
        let marker = directory.join(format!("{name}:{when}"));
        match OpenOptions::new().write(true).create_new(true).open(&marker) {
            Ok(_) => {
                tracing::error!(point = %marker.display(), "dies at a crash point");
                std::process::abort();
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => tracing::error!(point = %marker.display(), %error, "cannot mark a crash point"),
        }
    }
}

#[cfg(feature = "torture")]
mod offset {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::time::{Duration, Instant};

    /// The file is read no more often.
    const PERIOD: Duration = Duration::from_millis(100);

    static FILE: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os("CLOCK_OFFSET_FILE").map(PathBuf::from));
    static READ_AT: Mutex<Option<Instant>> = Mutex::new(None);
    static MICROS: AtomicI64 = AtomicI64::new(0);

    /// An absent or unreadable file is no offset.
    pub(super) fn micros() -> i64 {
        let Some(file) = &*FILE else { return 0 };
        let mut read_at = READ_AT.lock().unwrap_or_else(PoisonError::into_inner);
        if read_at.is_none_or(|at| at.elapsed() >= PERIOD) {
            let seconds = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i64>().ok());
            MICROS.store(seconds.unwrap_or(0).saturating_mul(1_000_000), Ordering::Relaxed);
            *read_at = Some(Instant::now());
        }
        MICROS.load(Ordering::Relaxed)
    }
}
