//! loragrid-engine: one process for one device slot. It loads a base model once and carries out orders for it; it sees
//! the floor of the library only, never the database.
//!
//! Orders come in on descriptor 0 and events leave on descriptor 3; descriptors 1 and 2 point at a log, so that no
//! library's print can break a frame.

mod compare;
mod failure;
mod fault;
mod generate;
mod interrupt;
mod lora;
mod memory;
mod merge;
mod model;
mod optimizer;
#[cfg(test)]
mod parity;
mod score;
mod serve;
mod shim;
mod tensor;
mod train;

use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, RawFd};
use std::process::ExitCode;

use floor::protocol::{EVENT_DESCRIPTOR, PROTOCOL_VERSION};
use tracing_subscriber::EnvFilter;

/// libtorch allocates through it too: as `malloc`, it comes before the system's.
#[global_allocator]
static HEAP: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The whole program.
pub fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == "--describe") {
        return describe();
    }
    let filter = EnvFilter::try_from_env("LORAGRID_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A line that a full disk does not take is lost; telling so on the same disk would end the engine.
    log.log_internal_errors(false).init();
    let Some(events) = event_stream(EVENT_DESCRIPTOR) else {
        tracing::error!("descriptor {EVENT_DESCRIPTOR} is closed: loragrid-engine is started by loragrid");
        return ExitCode::from(2);
    };
    load_cuda();
    memory::keep_freed();
    interrupt::listen();
    match serve::serve(std::io::stdin().lock(), events) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the stream of orders broke: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Loads the CUDA half of libtorch where it is beside the other: its kernels register themselves. One program serves both.
fn load_cuda() {
    // SAFETY: a constant name; the library's constructors are those that libtorch runs when it is linked.
    let _ = unsafe {
        nix::libc::dlopen(c"libtorch_cuda.so".as_ptr(), nix::libc::RTLD_NOW | nix::libc::RTLD_GLOBAL)
    };
}

/// Says what this engine can do, as one JSON object.
fn describe() -> ExitCode {
    load_cuda();
    let text = serde_json::json!({ "protocol": PROTOCOL_VERSION, "cuda": tch::Cuda::is_available() });
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The stream of events, if its descriptor is open.
fn event_stream(descriptor: RawFd) -> Option<File> {
    nix::fcntl::fcntl(
        // SAFETY: borrowed for this call only; an unopened descriptor makes the call fail.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) },
        nix::fcntl::FcntlArg::F_GETFD,
    )
    .ok()?;
    // SAFETY: it is open, as was just seen, and nothing else in this process owns it.
    Some(unsafe { File::from_raw_fd(descriptor) })
}
