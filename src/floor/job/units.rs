//! Unit types that must not be mixed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A size in bytes; prints as MB or GB of 10⁶ and 10⁹ bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as f64;
        if bytes >= 1e9 {
            write!(f, "{:.2} GB", bytes / 1e9)
        } else if bytes >= 1e6 {
            write!(f, "{:.1} MB", bytes / 1e6)
        } else if bytes >= 1e3 {
            write!(f, "{:.1} kB", bytes / 1e3)
        } else {
            write!(f, "{} B", self.0)
        }
    }
}

/// A count of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tokens(pub u64);

/// A duration in seconds; prints as the largest two units.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds(pub f64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.max(0.0);
        if seconds < 9.95 {
            return write!(f, "{seconds:.1} s");
        }
        let whole = seconds.round() as u64;
        match whole {
            0..=59 => write!(f, "{whole} s"),
            60..=3599 => write!(f, "{} min {:02} s", whole / 60, whole % 60),
            _ => write!(f, "{} h {:02} min", whole / 3600, whole % 3600 / 60),
        }
    }
}

/// A number with its noun: `1 job`, `2 jobs`.
pub fn counted(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_print_their_largest_two_units() {
        let shown: Vec<String> = [0.04, 9.96, 59.6, 60.0, 3725.0].map(|s| Seconds(s).to_string()).into();
        assert_eq!(shown, ["0.0 s", "10 s", "1 min 00 s", "1 min 00 s", "1 h 02 min"]);
    }

    #[test]
    fn bytes_print_decimal_units() {
        let shown: Vec<String> = [999, 98_362_432, 14_180_000_000].map(|b| Bytes(b).to_string()).into();
        assert_eq!(shown, ["999 B", "98.4 MB", "14.18 GB"]);
    }
}
