//! The commands by what they are for, as `--help` lists them.

use std::fmt::Write as _;

use clap::CommandFactory;

use super::Arguments;

/// Headings with their commands, each in the order in which it is listed.
const GROUPS: &[(&str, &[&str])] = &[
    ("Plan and run", &["plan", "run", "submit", "work"]),
    (
        "Queue",
        &[
            "status", "workers", "watch", "wait", "pause", "resume", "cancel", "retry", "priority", "undo",
            "clone", "explain", "logs", "rm",
        ],
    ),
    (
        "Results",
        &[
            "top", "show", "compare", "best", "effects", "findings", "report", "serve", "export", "query",
            "sync", "sweep", "import",
        ],
    ),
    (
        "Models and data",
        &["model", "data", "task", "eval", "merge", "verify", "generate", "chat", "push", "serve-model"],
    ),
    ("Tools", &["init", "keys", "config", "doctor", "gc", "db", "completions", "man"]),
];

const EXAMPLES: &str = "Examples:
  loragrid init                  Write a commented sweep file
  loragrid plan sweep.toml       Show what would run
  loragrid run sweep.toml        Run it and show the leaderboard
  loragrid top                   Show the leaderboard again
  loragrid report -o page.html   Write a report

Exit codes:
   0 success           1 internal error     2 usage             3 sweep file
   4 model             5 data               6 task              7 engine not found
   8 jobs failed       9 database          10 not found        11 engine
  12 models differ    13 disk full         14 jobs blocked     15 time limit, jobs left
  129, 130, 143 stopped by SIGHUP, SIGINT, SIGTERM";

/// The definition of the whole command line.
pub(in crate::cli) fn command() -> clap::Command {
    let command = Arguments::command();
    let groups = listed(&command);
    command
        .help_template(format!(
            "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}Options:\n{{options}}{{after-help}}"
        ))
        .after_help(EXAMPLES)
        .disable_help_subcommand(true)
}

/// The groups, for the page of commands.
#[cfg(test)]
pub(in crate::cli) fn groups() -> &'static [(&'static str, &'static [&'static str])] {
    GROUPS
}

/// Each group with its commands and what they do.
fn listed(command: &clap::Command) -> String {
    let mut text = String::new();
    for (heading, names) in GROUPS {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{heading}:");
        for name in *names {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {name:<12} {about}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group_and_the_definitions_are_consistent() {
        let command = command();
        command.clone().debug_assert();
        let mut listed: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let mut defined: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        listed.sort_unstable();
        defined.sort_unstable();
        assert_eq!(listed, defined);
    }
}
