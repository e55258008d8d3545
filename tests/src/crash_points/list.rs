//! The crash points there are, read from the sources; and effects there that have none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::processes::project;

/// Where the product's sources are.
const SOURCES: [&str; 3] = ["api/src", "shared/src", "worker/src"];

/// What can be seen from outside the process, as the sources write it.
pub const EFFECTS: [&str; 12] = [
    ".commit()",
    ".acquire()",
    ".execute(pool)",
    ".fetch_one(pool)",
    ".fetch_all(pool)",
    "(&state.pool)",
    ".query_async",
    "self.0.run",
    ".rail.send(",
    ".look_up(",
    ".movements(",
    ".mailer.send(",
];

/// One source file without comments and tests.
#[derive(Debug)]
pub struct Source {
    /// Below the project's directory.
    pub path: String,
    text: String,
}

/// All of them.
///
/// # Errors
/// When one cannot be read.
pub fn sources() -> Result<Vec<Source>> {
    let project = project()?;
    let mut found = Vec::new();
    for root in SOURCES {
        walk(&project.join(root), &mut found)?;
    }
    found.sort();
    found.into_iter().map(|path| Source::read(&project, &path)).collect()
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            walk(&path, found)?;
        } else if path.extension().is_some_and(|is| is == "rs") && name != "tests" && !name.ends_with("_tests") {
            found.push(path);
        }
    }
    Ok(())
}

/// How often each point stands in the sources, by its whole name.
#[must_use]
pub fn points(sources: &[Source]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let mut add = |name: &str, when: &str| *found.entry(format!("{name}:{when}")).or_default() += 1;
    for source in sources {
        for name in source.named("commit(tx, \"").chain(source.named("torture::around(\"")) {
            add(name, "before");
            add(name, "after");
        }
        for rest in source.after("torture::point(\"") {
            let mut words = rest.split('"');
            if let (Some(name), Some(", "), Some(when)) = (words.next(), words.next(), words.next()) {
                add(name, when);
            }
        }
    }
    found
}

/// Effects outside any pair of points, by pattern and file.
#[must_use]
pub fn bare(sources: &[Source]) -> BTreeMap<(&'static str, String), usize> {
    let mut found = BTreeMap::new();
    for source in sources {
        for effect in EFFECTS {
            let count = source.text.match_indices(effect).filter(|(at, _)| !source.is_within_points(*at)).count();
            if count > 0 {
                found.insert((effect, source.path.clone()), count);
            }
        }
    }
    found
}

impl Source {
    fn read(project: &Path, path: &Path) -> Result<Self> {
        let whole = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let path = path.strip_prefix(project)?.display().to_string();
        Ok(Self::new(path, &whole))
    }

    /// A file with this text.
    #[must_use]
    pub fn new(path: String, whole: &str) -> Self {
        let product = whole.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let code = product.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        // Calls that the formatter broke into lines read as those it did not.
        let text = code.collect::<Vec<_>>().join(" ").replace("( ", "(").replace(" .", ".");
        Self { path, text }
    }

    fn after<'a>(&'a self, start: &'a str) -> impl Iterator<Item = &'a str> {
        self.text.match_indices(start).filter_map(move |(at, _)| self.text.get(at + start.len()..))
    }

    fn named<'a>(&'a self, start: &'a str) -> impl Iterator<Item = &'a str> {
        self.after(start).filter_map(|rest| rest.split('"').next())
    }

    /// Whether what stands at `at` is an argument of `around`, or belongs to a future that becomes one.
    fn is_within_points(&self, at: usize) -> bool {
        let argument = self.text.match_indices("torture::around(").any(|(start, call)| {
            let open = start + call.len();
            open <= at && self.text.get(open..at).is_some_and(|between| depth(between) >= 0)
        });
        argument || self.future_at(at).is_some_and(|name| self.text.contains(&format!(", {name})")))
    }

    /// The variable that holds the future in which something stands: `let it = async { … }` or `let it = …(…);`.
    fn future_at(&self, at: usize) -> Option<&str> {
        let before = self.text.get(..at)?;
        let (start, keyword) = before.rmatch_indices("let ").next()?;
        let statement = before.get(start + keyword.len()..)?;
        let (name, rest) = statement.split_once(" = ")?;
        (!rest.contains(';')).then_some(name)
    }
}

/// How many brackets are open after a text; below zero once more were closed than opened.
fn depth(text: &str) -> i32 {
    let (mut open, mut lowest) = (0, 0);
    for character in text.chars() {
        match character {
            '(' | '{' | '[' => open += 1,
            ')' | '}' | ']' => open -= 1,
            _ => {}
        }
        lowest = lowest.min(open);
    }
    if lowest < 0 { lowest } else { open }
}
