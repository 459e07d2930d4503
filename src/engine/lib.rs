//! loragrid-engine: one process per device slot. It loads a base model once and runs orders on it. It depends on the
//! library's floor only, never on the database.
//!
//! Orders arrive on descriptor 0 and events leave on descriptor 3. Descriptors 1 and 2 point at a log, so a library's
//! print cannot corrupt a frame. An engine on another host has orders on standard input and events on standard output
//! instead (`--standard-streams`).

mod compare;
mod decode;
mod failure;
mod fault;
mod inquiries;
mod interrupt;
mod lora;
mod memory;
mod merge;
mod model;
mod optimizer;
#[cfg(test)]
mod parity;
mod rate;
mod score;
mod serve;
mod shim;
mod tensor;
mod train;

use std::fs::File;
use std::io::Write;
use std::os::fd::{FromRawFd, RawFd};
use std::process::ExitCode;

use floor::job::DType;
use floor::protocol::{EVENT_DESCRIPTOR, PROTOCOL_VERSION, STANDARD_STREAMS, use_standard_streams};
use tracing_subscriber::EnvFilter;

/// libtorch allocates through it too: as `malloc`, it precedes the system's.
#[global_allocator]
static HEAP: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The program's entry point.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("--describe") => return describe(),
        Some("--rate") => return rate(&arguments.next().unwrap_or_default()),
        Some(STANDARD_STREAMS) => {
            if let Err(error) = use_standard_streams() {
                // The log is not open yet.
                let _ = writeln!(std::io::stderr(), "the standard streams cannot be used: {error}");
                return ExitCode::FAILURE;
            }
        }
        _ => {}
    }
    let filter = EnvFilter::try_from_env("LORAGRID_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A line lost to a full disk is dropped; reporting that on the same disk would end the engine.
    log.log_internal_errors(false).init();
    let Some(events) = event_stream(EVENT_DESCRIPTOR) else {
        tracing::error!("descriptor {EVENT_DESCRIPTOR} is closed: loragrid-engine is started by loragrid");
        return ExitCode::from(2);
    };
    load_cuda();
    memory::report_plainly();
    memory::keep_freed();
    interrupt::listen();
    match serve::serve(std::io::stdin(), events) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the stream of orders broke: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Loads libtorch's CUDA library if present: its kernels register themselves. One program serves both CPU and GPU.
fn load_cuda() {
    // SAFETY: a constant name; the library's constructors are the ones libtorch runs when linked.
    let _ = unsafe {
        nix::libc::dlopen(c"libtorch_cuda.so".as_ptr(), nix::libc::RTLD_NOW | nix::libc::RTLD_GLOBAL)
    };
}

/// Prints the engine's capabilities as one JSON object.
fn describe() -> ExitCode {
    load_cuda();
    print(&serde_json::json!({ "protocol": PROTOCOL_VERSION, "cuda": tch::Cuda::is_available() }))
}

/// Measures the rate of matrix products in a dtype on the device of `LORAGRID_DEVICE` and prints it as one JSON object.
fn rate(dtype: &str) -> ExitCode {
    let Some(dtype) = DType::parse(dtype) else { return ExitCode::from(2) };
    load_cuda();
    let flops = rate::product_rate(tensor::kind(dtype), serve::device());
    print(&serde_json::json!({ "flops": flops }))
}

fn print(answer: &serde_json::Value) -> ExitCode {
    match writeln!(std::io::stdout(), "{answer}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The event stream, if its descriptor is open.
fn event_stream(descriptor: RawFd) -> Option<File> {
    nix::fcntl::fcntl(
        // SAFETY: borrowed for this call only; an unopened descriptor makes the call fail.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) },
        nix::fcntl::FcntlArg::F_GETFD,
    )
    .ok()?;
    // SAFETY: the check above shows it is open, and nothing else in this process owns it.
    Some(unsafe { File::from_raw_fd(descriptor) })
}
