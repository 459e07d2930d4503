//! Standard output and standard error.

use std::fs::Permissions;
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value as Json;

use super::arguments::ColorChoice;
use super::exit_code::ExitCode;
use super::failure::Failure;
use crate::report::{Table, plain, render_terminal};

/// How this process writes, decided by its arguments.
#[derive(Debug, Clone, Copy)]
struct OutputMode {
    json: bool,
    quiet: bool,
    color: ColorChoice,
}

static MODE: OnceLock<OutputMode> = OnceLock::new();

/// Version of every JSON object that the program prints.
const JSON_SCHEMA: u64 = 1;

/// Decides once how this process writes.
pub(super) fn set_mode(json: bool, quiet: bool, color: ColorChoice) {
    // A second decision would be a bug, and the first one stays.
    let _ = MODE.set(OutputMode { json, quiet, color });
}

fn mode() -> OutputMode {
    let plain = OutputMode { json: false, quiet: false, color: ColorChoice::Auto };
    MODE.get().copied().unwrap_or(plain)
}

/// Whether results and errors are JSON.
pub(super) fn is_json() -> bool {
    mode().json
}

/// Whether only results, warnings and errors are written.
pub(super) fn is_quiet() -> bool {
    mode().quiet
}

/// Whether what goes to a terminal, or to none, is colored.
pub(super) fn is_colored(is_terminal: bool) -> bool {
    match mode().color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    }
}

/// Writes a text for people and a line's end to standard output, in ASCII where the locale has no more. A closed pipe ends the
/// program's output quietly. Error: any other.
pub(super) fn write_line(text: &str) -> std::io::Result<()> {
    if ascii_only() { write_verbatim(&in_ascii(text)) } else { write_verbatim(text) }
}

/// A table for the terminal, in ASCII where the locale has no more: before it is laid out, since a sign may become two.
pub(super) fn show_table(table: &Table) -> String {
    if ascii_only() {
        render_terminal(&table.spelled(in_ascii), terminal_width())
    } else {
        render_terminal(table, terminal_width())
    }
}

/// A text from elsewhere in one line, without signs that would move the cursor or change colors.
pub(super) fn in_one_line(text: &str) -> String {
    plain(text.to_owned())
}

/// A text from elsewhere, each line set apart and without signs that would move the cursor or change colors.
pub(super) fn quoted(text: &str) -> String {
    let line = |line: &str| format!("  | {}", in_one_line(&line.replace('\t', "    ")));
    text.trim().lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Writes a text for programs and a line's end to standard output. Error: as [`write_line`].
pub(super) fn write_verbatim(text: &str) -> std::io::Result<()> {
    write_bytes(format!("{text}\n").as_bytes())
}

/// Writes bytes to standard output. Error: as [`write_line`].
pub(super) fn write_bytes(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if nobody_reads(&error) => Ok(()),
        result => result,
    }
}

/// Whether standard output leads to a pipe or a terminal that was closed.
fn nobody_reads(error: &std::io::Error) -> bool {
    let is_terminal = || {
        let file = nix::sys::stat::fstat(std::io::stdout());
        file.is_ok_and(|stat| stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFCHR)
    };
    error.kind() == ErrorKind::BrokenPipe || (error.raw_os_error() == Some(nix::libc::EIO) && is_terminal())
}

/// Writes a file beside its place and renames it, so that nobody sees half of it; it keeps the rights of the one in its place. Its
/// folder is made. A link's target is written, and a device or a pipe is written to. Error: the system's.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let there = std::fs::metadata(path).ok();
    if there.as_ref().is_some_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
        return std::fs::OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let target = match path.read_link() {
        _ if there.is_some() => path.canonicalize()?,
        // A link to what is not there yet.
        Ok(target) => path.parent().unwrap_or(Path::new("")).join(target),
        Err(_) => path.to_owned(),
    };
    let (path, mode) =
        (target.as_path(), there.as_ref().map_or(0o644, |metadata| metadata.permissions().mode() & 0o777));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(mode)).tempfile_in(folder)?;
    file.write_all(bytes)?;
    // The mask of the process took some away.
    if there.is_some() {
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
    }
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Where a result goes: none is standard output, as is `-`.
pub(super) fn output_file(named: Option<&Path>) -> Option<&Path> {
    named.filter(|path| *path != Path::new("-"))
}

/// Whether the locale is said to be the plain one, which knows ASCII only.
pub(super) fn ascii_only() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    locale.is_some_and(|locale| locale == "C" || locale == "POSIX")
}

/// A text with ASCII for the signs that tables and notes use.
pub(super) fn in_ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '─' | '–' | '−' | '╭' | '╰' | '╮' | '╯' => out.push('-'),
            '│' | '·' | '├' => out.push('|'),
            '▶' => out.push('>'),
            '—' => out.push_str("--"),
            '’' | '‘' => out.push('\''),
            '“' | '”' => out.push('"'),
            '±' => out.push_str("+-"),
            '≈' => out.push('~'),
            '×' => out.push('x'),
            '…' => out.push_str("..."),
            c if c.is_ascii() => out.push(c),
            _ => out.push('?'),
        }
    }
    out
}

/// Writes a part of a line to standard output at once. Error: as [`write_line`].
pub(super) fn write_part(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if nobody_reads(&error) => Ok(()),
        result => result,
    }
}

/// A JSON object with the version of its form as first member.
#[derive(serde::Serialize)]
struct Versioned<'a, T> {
    schema: u64,
    #[serde(flatten)]
    value: &'a T,
}

/// A JSON object with the version of its form.
pub(super) fn versioned(value: &Json) -> Json {
    serde_json::json!(Versioned { schema: JSON_SCHEMA, value })
}

/// Writes one JSON object, indented, to standard output.
pub(super) fn write_json(value: &Json) -> std::io::Result<()> {
    write_verbatim(&serde_json::to_string_pretty(&versioned(value))?)
}

/// Writes one JSON object as a line of a stream of events.
pub(super) fn write_event(value: &Json) -> std::io::Result<()> {
    write_verbatim(&versioned(value).to_string())
}

/// Asks on a terminal. Error: standard input is not a terminal.
pub(super) fn confirmed(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        let help = "add --yes to go ahead, or --dry-run to only list it".to_owned();
        return Err(Failure::new(
            ExitCode::Usage,
            format!("cannot ask on standard input, which is not a terminal: {question}"),
            help,
        ));
    }
    let mut output = std::io::stdout();
    write!(output, "{question} [y/N] ")?;
    output.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Writes one JSON value, indented, to standard output while it is made. Error: as [`write_line`].
pub(super) fn stream_json(value: &impl serde::Serialize) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let value = Versioned { schema: JSON_SCHEMA, value };
    let written = serde_json::to_writer_pretty(&mut out, &value).map_err(std::io::Error::from);
    match written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Err(error) if nobody_reads(&error) => Ok(()),
        result => result,
    }
}

/// Writes what is good to know, and nothing with --quiet, to standard error.
pub(super) fn write_note(text: &str) {
    if !is_quiet() {
        write_error(text);
    }
}

/// Writes a text and a line's end to standard error; where even that fails there is nobody to tell.
pub(super) fn write_error(text: &str) {
    // In one piece, so that lines of several processes do not mix.
    let _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// A narrower terminal gets the whole table and wraps it itself.
const MIN_WIDTH: u16 = 20;

/// Width of the terminal on standard output; `None` where it is none.
pub(super) fn terminal_width() -> Option<u16> {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let terminal = std::io::stdout().is_terminal();
    let width = columns.or_else(|| terminal.then(|| comfy_table::Table::new().width()).flatten());
    // A terminal that knows no size says 0.
    width.filter(|width| *width >= MIN_WIDTH)
}

/// A point in time in the local zone, from milliseconds since 1970.
pub(super) fn local_time(milliseconds: i64, format: &str) -> String {
    let time = jiff::Timestamp::from_millisecond(milliseconds).unwrap_or_default();
    time.to_zoned(jiff::tz::TimeZone::system()).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sign_of_a_table_has_one_in_ascii() {
        assert_eq!(in_ascii("0.3 ± 0.1 ≈ – −1 2×3…\n──"), "0.3 +- 0.1 ~ - -1 2x3...\n--");
    }

    #[test]
    fn a_file_is_whole_and_readable_and_its_folder_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.csv");
        write_file(&path, b"1").unwrap();
        write_file(&path, b"22").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"22");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_file(&link, b"333").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"333");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(link.is_symlink());
        let later = folder.path().join("later");
        std::os::unix::fs::symlink("not there yet", &later).unwrap();
        write_file(&later, b"5").unwrap();
        assert_eq!(std::fs::read(folder.path().join("not there yet")).unwrap(), b"5");
        write_file(Path::new("/dev/null"), b"4").unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    }
}
