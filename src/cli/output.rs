//! Standard output and standard error.

use std::io::{ErrorKind, IsTerminal, Write};

use serde_json::Value as Json;

/// Writes a text and a line's end to standard output. A closed pipe ends the program's output quietly. Error: any other.
pub(super) fn write_line(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes a part of a line to standard output at once. Error: as [`write_line`].
pub(super) fn write_part(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes one JSON value, indented, to standard output.
pub(super) fn write_json(value: &Json) -> std::io::Result<()> {
    write_line(&serde_json::to_string_pretty(value)?)
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
