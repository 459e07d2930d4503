//! Orders and events over the standard streams, for an engine on another host: launchers such as `srun` and `ssh` pass no other
//! descriptors and few signals.

use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, dup2_stdin, dup2_stdout};

use super::frame::{encode_bytes, read_bytes};
use super::{EVENT_DESCRIPTOR, Order};

/// How long a process that was told to exit may take after the end of its input.
const GOODBYE: Duration = Duration::from_secs(10);

/// Makes standard output the stream of events and standard error the log, and from now on reads standard input in a thread of its own:
/// an order to stop becomes SIGTERM at once, also during another order. The end of the input kills the process: nobody is left to take
/// its results, as when the parent of a local engine dies; after [`Order::Shutdown`] it has ten seconds to exit. Call it before the first
/// order is read and before anything is printed. Error: the system's.
pub fn use_standard_streams() -> std::io::Result<()> {
    // SAFETY: nothing in this process uses the descriptor yet; an unrelated one that was inherited is replaced.
    if unsafe { nix::libc::dup2(1, EVENT_DESCRIPTOR) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    dup2_stdout(std::io::stderr())?;
    let input = fcntl(std::io::stdin(), FcntlArg::F_DUPFD_CLOEXEC(EVENT_DESCRIPTOR + 1))?;
    // SAFETY: the call above has made it, and nothing else owns it.
    let input = unsafe { OwnedFd::from_raw_fd(input) };
    let (reads, writes) = std::io::pipe()?;
    dup2_stdin(&reads)?;
    std::thread::spawn(move || forward(File::from(input), File::from(OwnedFd::from(writes))));
    Ok(())
}

/// Passes orders on until the input ends.
fn forward(mut input: File, mut orders: File) {
    let mut is_leaving = false;
    while let Ok(Some(body)) = read_bytes(&mut input) {
        match serde_json::from_slice::<Order>(&body) {
            Ok(Order::Stop) => {
                // The process handles the signal, or ends by it.
                let _ = kill(Pid::this(), Signal::SIGTERM);
            }
            last @ (Ok(_) | Err(_)) => {
                let passed = encode_bytes(&body).map(|frame| orders.write_all(&frame));
                is_leaving |= matches!(last, Ok(Order::Shutdown));
                if !matches!(passed, Ok(Ok(()))) {
                    break;
                }
            }
        }
    }
    if is_leaving {
        std::thread::sleep(GOODBYE);
    }
    let _ = kill(Pid::this(), Signal::SIGKILL);
}
