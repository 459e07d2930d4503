//! Sweep files.

use std::path::Path;

use loragrid::plan::expand;
use loragrid::random::Stream;
use loragrid::sweep_file::{SourceText, SweepSpec};

use super::fuzz;

/// Fragments of sweep files, and some that break them.
const PIECES: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "\"",
    "'",
    "=",
    "\n",
    "{",
    "}",
    ",",
    "\0",
    "\u{feff}",
    "é",
    "9223372036854775808",
    "1e999",
    "nan",
    "-0.0",
    "[axes]",
    "[zip.x]",
    "[derive]",
    "[[when]]",
    "[[exclude]]",
    "lora.rank",
    "seed",
    "if = ",
    "set = ",
    " in ",
    "&&",
    "!",
    "((((((",
    "train.epochs = 1",
    "1979-05-27",
];

fn corpus() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts =
        vec![std::fs::read_to_string(root.join("src/cli/commands/init.toml")).unwrap().replace("#: ", "")];
    for folder in ["sweeps", "sweeps/study"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                texts.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    texts
}

/// A string with a few random changes.
fn damaged(text: &str, random: Stream) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for change in 0..=random.below(0, 6) {
        let at = random.below(4 * change + 1, chars.len() as u64 + 1) as usize;
        let length = (random.below(4 * change + 2, 12) as usize).min(chars.len() - at);
        let piece = PIECES[random.below(4 * change + 3, PIECES.len() as u64) as usize];
        match random.below(4 * change + 4, 3) {
            0 => drop(chars.drain(at..at + length)),
            1 => drop(chars.splice(at..at, piece.chars())),
            _ => drop(chars.splice(at..at + length, piece.chars())),
        }
    }
    chars.into_iter().collect()
}

#[test]
fn no_damaged_sweep_file_makes_the_program_panic() {
    let corpus = corpus();
    let mut good = 0;
    let tries = fuzz("sweep files", |random| {
        let text = damaged(&corpus[random.below(99, corpus.len() as u64) as usize], random);
        if let Ok(spec) = SweepSpec::parse(SourceText::new(Path::new("fuzz.toml"), &text)) {
            let again = SweepSpec::parse(SourceText::new(Path::new("fuzz.toml"), &spec.to_toml()));
            assert!(again.is_ok(), "what was printed does not parse: {again:?}\n{text}");
            good += u64::from(expand(&spec).is_ok());
        }
    });
    eprintln!("{tries} files, {good} of them sweeps");
    assert!(tries > 100 && good > 0, "{tries} files, {good} sweeps");
}
