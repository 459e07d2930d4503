//! The machine's rate of matrix products, measured once and remembered, for estimates of trainings that have not run here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::engine_process::product_rate;
use crate::job::DType;

/// File name in the user's cache folder.
const FILE: &str = "loragrid/rates.json";

/// Environment variable that names the rate instead of measuring it.
const NAMED: &str = "LORAGRID_PRODUCT_RATE";

/// Floating-point operations per second of matrix products, by machine, device and dtype.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Rates(BTreeMap<String, f64>);

/// The remembered rate of a dtype, else the rate that the engine measures now: it takes about two seconds, once per machine,
/// device and dtype. None without an engine, or if it does not answer.
pub(super) fn remembered_rate(engine: Option<&Path>, device: &str, dtype: DType) -> Option<f64> {
    if let Some(named) = std::env::var(NAMED).ok().and_then(|text| text.parse().ok()) {
        return Some(named);
    }
    let file =
        cache_folder(&|name| std::env::var_os(name).map(PathBuf::from)).map(|folder| folder.join(FILE));
    // A home folder may be shared by several machines.
    let machine = nix::unistd::gethostname().unwrap_or_default();
    let key = format!("{} {device} {}", machine.to_string_lossy(), dtype.as_str());
    let mut rates = file.as_deref().map(read).unwrap_or_default();
    if let Some(rate) = rates.0.get(&key).copied().filter(|rate| rate.is_finite() && *rate > 0.0) {
        return Some(rate);
    }
    let rate = product_rate(engine?, device, dtype.as_str())?;
    rates.0.insert(key, rate);
    if let Some(file) = file {
        // Not remembered where the folder cannot be written: it is measured again.
        let _ = write(&file, &rates);
    }
    Some(rate)
}

/// XDG_CACHE_HOME, else `.cache` in the home folder.
fn cache_folder(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let named = variable("XDG_CACHE_HOME").filter(|folder| folder.is_absolute());
    named.or_else(|| variable("HOME").map(|home| home.join(".cache")))
}

fn read(file: &Path) -> Rates {
    std::fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn write(file: &Path, rates: &Rates) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut whole = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut whole, rates)?;
    whole.persist(file).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_survive_the_file_and_a_broken_file_is_measured_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/rates.json");
        let rates = Rates(BTreeMap::from([("host cpu bf16".to_owned(), 5e11)]));
        write(&file, &rates).unwrap();
        assert_eq!(read(&file).0, rates.0);
        std::fs::write(&file, "{").unwrap();
        assert!(read(&file).0.is_empty());
    }

    #[test]
    fn the_cache_folder_is_xdgs() {
        let named = |name: &str| (name == "XDG_CACHE_HOME").then(|| PathBuf::from("/cache"));
        assert_eq!(cache_folder(&named), Some(PathBuf::from("/cache")));
        let relative = |name: &str| Some(PathBuf::from(if name == "HOME" { "/home/a" } else { "b" }));
        assert_eq!(
            cache_folder(&relative),
            Some(PathBuf::from("/home/a/.cache")),
            "a relative path is ignored"
        );
    }
}
