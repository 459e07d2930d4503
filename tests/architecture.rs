//! Modules keep to their order, only `cli` prints or exits, files stay small, and ARCHITECTURE.md lists every folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};

/// The modules from the floor up: each may use only earlier ones.
const ORDER: &[&str] = &[
    "python",
    "jinja",
    "job",
    "random",
    "schedule",
    "trie",
    "passes",
    "quant",
    "pretrained",
    "hub",
    "data",
    "task",
    "protocol", // the end of the floor, a crate of its own
    "sweep_file",
    "scheduler",
    "device",
    "orders",
    "plan",
    "queue",
    "store",
    "engine_process",
    "runner",
    "stats",
    "report",
    "track",
    "workspace",
    "web",
    "cli",
];
/// Modules that may use fewer others than the order allows.
const NARROW: &[(&str, &[&str])] = &[
    ("scheduler", &["job"]),
    ("stats", &["random"]),
    ("engine_process", &["protocol"]),
    ("sweep_file", &["job"]),
];
/// Longest file in lines.
const MAX_LINES: usize = 500;
/// Macros that print.
const PRINTING: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];
/// Tests that report that they were skipped, and build scripts that print for cargo.
const MAY_PRINT: &[&str] = &["engine/parity", "engine/build.rs"];

/// The violations in a source file; `path` is relative to `src`.
fn violations(path: &Path, text: &str) -> Vec<String> {
    let mut parts = path.components().map(|part| part.as_os_str().to_str().unwrap().to_owned());
    let room =
        parts.next().and_then(|first| if first == "floor" { parts.next() } else { Some(first) }).unwrap();
    let mut found = Vec::new();
    if text.lines().count() > MAX_LINES {
        found.push(format!("{}: more than {MAX_LINES} lines", path.display()));
    }
    let file: TokenStream = text.parse::<TokenStream>().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut words = Vec::new();
    flatten(file, &mut words);
    let mut in_tests = path.file_name().is_some_and(|name| name == "tests.rs");
    for (at, word) in words.iter().enumerate() {
        let next = |n: usize| words.get(at + n).map(String::as_str).unwrap_or_default();
        if word == "crate" || word == "floor" {
            for used in first_segments(&words[at + 1..]) {
                if let Some(reason) = forbidden(&room, &used) {
                    found.push(format!("{}: {reason}", path.display()));
                }
            }
        }
        // Unit tests are at the end of a file and may report that they were skipped.
        in_tests |= word == "cfg" && next(1) == "(" && next(2) == "test";
        if room != "cli" && room != "main.rs" && !in_tests {
            let exempt = MAY_PRINT.iter().any(|known| path.starts_with(known));
            if !exempt && PRINTING.contains(&word.as_str()) && next(1) == "!" {
                found.push(format!("{}: {word}! outside cli", path.display()));
            }
            if word == "process" && next(1) == ":" && next(3) == "exit" {
                found.push(format!("{}: process::exit outside cli", path.display()));
            }
        }
    }
    found
}

/// All tokens in order, with groups flattened.
fn flatten(stream: TokenStream, words: &mut Vec<String>) {
    for tree in stream {
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::None => ("", ""),
                };
                words.push(open.to_owned());
                flatten(group.stream(), words);
                words.push(close.to_owned());
            }
            other => words.push(other.to_string()),
        }
    }
}

/// The segments after `crate::` or `floor::`: one, or those of a brace list.
fn first_segments(rest: &[String]) -> Vec<String> {
    if rest.len() < 3 || rest[0] != ":" || rest[1] != ":" {
        return Vec::new();
    }
    if rest[2] != "{" {
        return vec![rest[2].clone()];
    }
    let (mut depth, mut segments, mut fresh) = (0, Vec::new(), true);
    for word in &rest[2..] {
        match word.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => fresh = true,
            name if depth == 1 && fresh => {
                segments.push(name.to_owned());
                fresh = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    segments
}

fn forbidden(room: &str, used: &str) -> Option<String> {
    let place = |name: &str| ORDER.iter().position(|known| *known == name);
    let (Some(room_place), Some(used_place)) = (place(room), place(used)) else { return None };
    if used_place > room_place {
        return Some(format!("{room} uses {used}, which stands above it"));
    }
    let (_, allowed) = NARROW.iter().find(|(name, _)| *name == room)?;
    (used_place != room_place && !allowed.contains(&used))
        .then(|| format!("{room} uses {used} and may use only {allowed:?}"))
}

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    files
}

#[test]
fn no_room_uses_one_above_it_and_only_cli_prints() {
    let files = sources();
    assert!(files.len() > 50, "only {} files were found", files.len());
    let found: Vec<String> = files.iter().flat_map(|(path, text)| violations(path, text)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn planted_violations_are_found() {
    let planted = [
        ("floor/job/x.rs", "use crate::task::Task;"),
        ("scheduler/x.rs", "fn f() { crate::store::now(); }"),
        ("scheduler/x.rs", "use crate::protocol::Event;"),
        ("sweep_file/x.rs", "use crate::{job::Key, plan::Plan};"),
        ("report/x.rs", "fn f() { println!(\"{}\", 1); }"),
        ("report/x.rs", "macro_rules! m { () => { crate::cli::main() } }"),
        ("store/x.rs", "fn f() { std::process::exit(1) }"),
    ];
    for (path, text) in planted {
        assert_eq!(violations(Path::new(path), text).len(), 1, "{path}: {text}");
    }
    assert_eq!(violations(Path::new("plan/x.rs"), "use crate::sweep_file::SweepSpec;"), Vec::<String>::new());
}

#[test]
fn the_engine_knows_no_crate_of_this_project_but_the_floor_and_the_floor_none() {
    let manifest = |name: &str| {
        std::fs::read_to_string(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name).join("Cargo.toml"),
        )
        .unwrap()
    };
    let dependencies = |name: &str| -> Vec<String> {
        let table: toml::Table = manifest(name).parse().unwrap();
        table["dependencies"].as_table().unwrap().keys().cloned().collect()
    };
    let of_project = |name: &str| -> Vec<String> {
        dependencies(name)
            .into_iter()
            .filter(|known| known.starts_with("loragrid") || known == "floor")
            .collect()
    };
    assert_eq!(of_project("engine"), ["floor"]);
    assert_eq!(of_project("floor"), Vec::<String>::new());
    assert!(!dependencies("engine").iter().any(|known| known == "sqlx"));
}

#[test]
fn the_architecture_page_names_every_folder() {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let folders: BTreeSet<String> = sources()
        .iter()
        .filter_map(|(path, _)| path.parent())
        .filter(|folder| !folder.as_os_str().is_empty())
        .map(|folder| format!("{}/", folder.file_name().unwrap().to_str().unwrap()))
        .collect();
    let missing: Vec<&String> = folders.iter().filter(|folder| !page.contains(folder.as_str())).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md does not name {missing:?}");
    let rooms: Vec<&&str> = ORDER.iter().filter(|room| !page.contains(&format!("{room}/"))).collect();
    assert!(rooms.is_empty(), "ARCHITECTURE.md does not name {rooms:?}");
}
