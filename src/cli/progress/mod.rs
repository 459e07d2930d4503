//! Live progress: a line for each slot and one for the run on a terminal, plain lines elsewhere, events with `--json`. A thread of its
//! own writes it, so that a terminal which takes nothing (Ctrl-S, a pipe that nobody reads) holds nobody up.

mod events;
mod lines;
mod slots;

use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use super::output::is_json;
use crate::runner::Progress;
use lines::Lines;
use slots::Slots;

/// News that wait for a terminal; what comes after them while it takes nothing is not shown.
const WAITING: usize = 1024;
/// How long the end of a run waits for a terminal that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a terminal is drawn again where nothing happens: the time that passed and the time left move.
const REDRAW: Duration = Duration::from_millis(500);

/// Shows progress from a thread of its own.
pub(super) struct Display {
    news: SyncSender<Progress>,
    /// Ends when everything is written.
    written: Receiver<()>,
    /// News that were not shown.
    lost: u64,
}

impl Display {
    /// For jobs of which the number is not known yet.
    pub(super) fn new() -> Self {
        let (news, receiver) = sync_channel(WAITING);
        let (writing, written) = channel::<()>();
        std::thread::spawn(move || {
            write_all(&receiver);
            drop(writing);
        });
        Self { news, written, lost: 0 }
    }

    /// Shows what happened, or forgets it where nobody reads.
    pub(super) fn show(&mut self, progress: Progress) {
        // A stream of events is whole: its reader is waited for.
        let sent = if is_json() {
            self.news.send(progress).map_err(|_| ())
        } else {
            match self.news.try_send(progress) {
                Err(TrySendError::Full(_)) => Err(()),
                Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
            }
        };
        self.lost += u64::from(sent.is_err());
    }

    /// Waits until everything is written, but not long for a terminal that takes nothing. Returns how many news were not shown.
    pub(super) fn finish(self) -> u64 {
        drop(self.news);
        let patience = if is_json() { Duration::MAX } else { PATIENCE };
        match self.written.recv_timeout(patience) {
            Err(RecvTimeoutError::Timeout) => self.lost + 1,
            Ok(()) | Err(RecvTimeoutError::Disconnected) => self.lost,
        }
    }
}

/// Writes what happens until nothing more does.
fn write_all(news: &Receiver<Progress>) {
    if is_json() {
        return news.iter().for_each(|progress| events::write(&progress));
    }
    let is_terminal = std::io::stderr().is_terminal();
    let mut slots = is_terminal.then(Slots::new);
    let mut lines = Lines::default();
    loop {
        match news.recv_timeout(REDRAW) {
            Ok(progress) => {
                let line = lines.line_of(&progress);
                match &mut slots {
                    Some(slots) => {
                        slots.show(&progress);
                        line.filter(|line| !line.is_progress)
                            .into_iter()
                            .for_each(|line| slots.print(&line.text));
                    }
                    None => line.into_iter().for_each(|line| lines::print(&line)),
                }
            }
            Err(RecvTimeoutError::Timeout) => slots.iter_mut().for_each(Slots::redraw),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    slots.iter().for_each(Slots::clear);
}
