//! Fault injection for tests: `LORAGRID_FAULT=oom@pass:17,kill@step:5,hang@pass:3,enospc@checkpoint:2` triggers each
//! fault the n-th time its point is reached. Without the variable nothing happens.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

/// Kind and count of each fault, by injection point.
static FAULTS: LazyLock<Vec<(String, String, u64)>> = LazyLock::new(|| {
    let text = std::env::var("LORAGRID_FAULT").unwrap_or_default();
    let parse = |fault: &str| {
        let (kind, place) = fault.split_once('@')?;
        let (place, count) = place.split_once(':')?;
        Some((kind.to_owned(), place.to_owned(), count.parse().ok()?))
    };
    text.split(',').filter_map(parse).collect()
});
static COUNTS: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);

/// The fault due at this point now, if any.
fn due(place: &str) -> Option<&'static str> {
    if FAULTS.is_empty() {
        return None;
    }
    let mut counts = COUNTS.lock().ok()?;
    let count = counts.entry(place.to_owned()).or_default();
    *count += 1;
    FAULTS.iter().find(|(_, known, at)| known == place && at == count).map(|(kind, ..)| kind.as_str())
}

/// An injection point for kill, hang and out of memory. OOM panics as libtorch's allocator does.
pub(crate) fn at(place: &str) {
    match due(place) {
        Some("kill") => std::process::abort(),
        Some("hang") => loop {
            std::thread::park();
        },
        Some("oom") => panic!("not enough memory: a fault on purpose"),
        _ => {}
    }
}

/// An injection point for writes. Error: a full disk.
pub(crate) fn write(place: &str) -> std::io::Result<()> {
    match due(place) {
        Some("enospc") => Err(std::io::Error::from_raw_os_error(nix::libc::ENOSPC)),
        Some("kill") => std::process::abort(),
        _ => Ok(()),
    }
}
