//! `docs/commands.md` and `docs/keys.md`, made from the definitions. `UPDATE_DOCS=1 cargo test --lib reference` writes them.

use std::fmt::Write as _;
use std::path::Path;

use clap::Arg;

use super::arguments::{command, groups};
use crate::job::KEYS;

/// The page of all commands.
fn commands_page() -> String {
    let root = command();
    let mut page = "# Commands\n\nMade from the definitions by `make docs`; `loragrid COMMAND --help` prints the same.\n".to_owned();
    page.push_str("\n## Global options\n\n");
    options(&mut page, root.get_arguments().filter(|argument| argument.is_global_set()));
    for (heading, names) in groups() {
        let _ = write!(page, "\n## {heading}\n");
        for name in *names {
            let found = root.find_subcommand(name);
            section(&mut page, found.unwrap_or_else(|| panic!("{name}")), "loragrid", 3);
        }
    }
    page
}

/// A command, and its subcommands.
fn section(page: &mut String, command: &clap::Command, parent: &str, level: usize) {
    let name = format!("{parent} {}", command.get_name());
    let _ = write!(page, "\n{} `{name}`\n\n", "#".repeat(level));
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let aliases: Vec<&str> = command.get_visible_aliases().collect();
    let _ = writeln!(
        page,
        "{}.{}",
        about.trim_end_matches('.'),
        match aliases.as_slice() {
            [] => String::new(),
            aliases => format!(" Alias: `{}`.", aliases.join("`, `")),
        }
    );
    let local: Vec<&Arg> = command.get_arguments().filter(|argument| !argument.is_global_set()).collect();
    if !local.is_empty() {
        let usage: Vec<String> = local
            .iter()
            .filter(|argument| argument.is_positional())
            .map(|argument| positional(argument))
            .collect();
        let _ = write!(page, "\n```\n{name} [OPTIONS] {}\n```\n\n", usage.join(" "));
        options(page, local.into_iter());
    }
    for subcommand in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        section(page, subcommand, &name, level + 1);
    }
}

fn positional(argument: &Arg) -> String {
    let name = value_names(argument);
    if argument.is_required_set() { format!("<{name}>") } else { format!("[{name}]") }
}

fn value_names(argument: &Arg) -> String {
    match argument.get_value_names() {
        Some(names) => names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" "),
        None => argument.get_id().as_str().to_uppercase(),
    }
}

/// A table of arguments.
fn options<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    let mut rows = String::new();
    for argument in arguments.filter(|argument| !["help", "version"].contains(&argument.get_id().as_str())) {
        let mut spelled = match (argument.get_short(), argument.get_long()) {
            (Some(short), Some(long)) => format!("-{short}, --{long}"),
            (None, Some(long)) => format!("--{long}"),
            (_, None) => value_names(argument),
        };
        if argument.get_long().is_some() && argument.get_action().takes_values() {
            spelled = format!("{spelled} {}", value_names(argument));
        }
        let mut help = argument.get_help().map(ToString::to_string).unwrap_or_default().replace('|', "\\|");
        let values: Vec<String> =
            argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        if !values.is_empty()
            && !argument.is_hide_possible_values_set()
            && argument.get_action().takes_values()
        {
            let _ = write!(help, " (`{}`)", values.join("`, `"));
        }
        let defaults: Vec<String> =
            argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
        if !defaults.is_empty()
            && !argument.is_hide_default_value_set()
            && argument.get_action().takes_values()
        {
            let _ = write!(help, " [default: {}]", defaults.join(" "));
        }
        let _ = writeln!(rows, "| `{spelled}` | {help} |");
    }
    if !rows.is_empty() {
        let _ = write!(page, "| option | |\n|---|---|\n{rows}");
    }
}

/// The page of all keys.
fn keys_page() -> String {
    let mut page = "# Keys of a sweep file\n\nMade from the definitions by `make docs`; `loragrid keys` prints the same. Every key can be an axis.\n\n| key | default | values | meaning |\n|---|---|---|---|\n".to_owned();
    for key in KEYS {
        let default = key.default.map_or("–".to_owned(), |default| format!("`{default}`"));
        let (values, help) = (key.kind.expected().replace('|', "\\|"), key.help.replace('|', "\\|"));
        let _ = writeln!(page, "| `{}` | {default} | {values} | {help} |", key.path);
    }
    page
}

/// The text of `--help` of every command.
fn every_help(command: &clap::Command, parent: &str, out: &mut String) {
    let mut command = command.clone().bin_name(format!("{parent}{}", command.get_name()));
    let help = command.render_long_help();
    let _ = write!(out, "$ {parent}{} --help\n{help}\n", command.get_name());
    let parent = format!("{parent}{} ", command.get_name());
    for subcommand in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        every_help(subcommand, &parent, out);
    }
}

#[test]
fn the_pages_of_commands_and_keys_are_what_the_definitions_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for (name, page) in [("commands.md", commands_page()), ("keys.md", keys_page())] {
        let path = folder.join(name);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == page, "docs/{name} is out of date: run `make docs`");
    }
}

#[test]
fn the_help_of_every_command_is_as_it_was_read_last() {
    let mut text = String::new();
    every_help(&command(), "", &mut text);
    insta::assert_snapshot!(text);
}

/// The `loragrid` command lines in the shell blocks of a page.
fn command_lines(page: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut is_shell = false;
    for line in page.lines() {
        if let Some(language) = line.strip_prefix("```") {
            is_shell = !is_shell && language == "sh";
        } else if is_shell && line.starts_with("loragrid ") {
            lines.push(
                line.split("   #")
                    .next()
                    .unwrap_or(line)
                    .split(" # ")
                    .next()
                    .unwrap_or(line)
                    .trim()
                    .to_owned(),
            );
        }
    }
    lines
}

/// The words of a command line, with quotes as a shell has them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ' ') => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            _ => word.push(c),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[test]
fn every_command_line_of_the_documentation_is_understood() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages =
        pages.chain([root.join("README.md")]).filter(|path| path.extension().is_some_and(|end| end == "md"));
    let mut checked = 0;
    for path in pages {
        for line in command_lines(&std::fs::read_to_string(&path).unwrap()) {
            for part in line.split(" ; ") {
                let parsed = command().try_get_matches_from(words(part));
                assert!(parsed.is_ok(), "{}: {part}: {}", path.display(), parsed.err().unwrap());
                checked += 1;
            }
        }
    }
    assert!(checked > 30, "{checked}");
}
