//! Every reader of what a stranger may send, on made-up bytes (docs/CONTRIBUTING.md, "Fuzzing").
//!
//! Each target reads its corpus (`tests/fixtures/corpus/<target>`) as it is, then mutations of it and plain noise. No
//! target may panic; what else holds is said beside it. Inputs are bounded in length, as the listeners bound them.

mod bank;
mod input;
mod networks;
mod proofs;

use std::panic::RefUnwindSafe;
use std::path::Path;

/// Inputs a run of the tests makes up for each target; `BOLERO_RANDOM_ITERATIONS` says another number.
const INPUTS: usize = 2_000;
/// Longest input.
const LONGEST: usize = 64 * 1024;
/// What a random byte would rarely be.
const WORDS: [&str; 24] = [
    "\0",
    "\"",
    "\\u0000",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "&",
    "=",
    "%00",
    "%",
    ";",
    "-",
    "-0",
    "1e999",
    "1e-60",
    "0.005",
    "99999999999999999999999999999",
    "null",
    "\u{e9}",
    "\u{202e}",
    "\n",
];

/// Reads the corpus of a target, and `INPUTS` inputs made from it.
fn fuzz(target: &str, words: &'static [&'static str], check: impl Fn(&[u8]) + RefUnwindSafe) {
    let corpus = corpus(target);
    for seed in &corpus {
        check(seed);
    }
    bolero::check!()
        .with_iterations(INPUTS)
        .with_type::<(u8, Vec<(u16, u8, u8)>, Vec<u8>)>()
        .for_each(|(choice, changes, noise)| check(&made(&corpus, words, *choice, changes, noise)));
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn made(corpus: &[Vec<u8>], words: &[&str], choice: u8, changes: &[(u16, u8, u8)], noise: &[u8]) -> Vec<u8> {
    let mut bytes = match usize::from(choice).checked_rem(corpus.len() + 1) {
        Some(number) if number < corpus.len() => corpus[number].clone(),
        _ => noise.to_vec(),
    };
    for (place, how, byte) in changes {
        let place = usize::from(*place) % (bytes.len() + 1);
        let rest = &bytes[place..];
        let piece: Vec<u8> = match how % 6 {
            0 => vec![*byte],
            1 => WORDS[usize::from(*byte) % WORDS.len()].into(),
            2 if !words.is_empty() => words[usize::from(*byte) % words.len()].into(),
            3 => rest.repeat(usize::from(byte % 4)),
            4 => noise.to_vec(),
            _ => Vec::new(),
        };
        let dropped = if how % 6 == 0 { 1 } else { usize::from(how / 6 % 8) };
        let end = (place + dropped).min(bytes.len());
        bytes.splice(place..end, piece);
        bytes.truncate(LONGEST);
    }
    bytes
}

/// The lines of an input, as text: for readers of several values.
fn lines<const N: usize>(bytes: &[u8]) -> [String; N] {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut lines = text.splitn(N, '\n').map(str::to_owned);
    std::array::from_fn(|_| lines.next().unwrap_or_default())
}
