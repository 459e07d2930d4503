//! Names and numbers that identify things, each with its own type.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::key::Digest;

/// Why a string is not a valid id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// A sweep name that is not a valid folder name.
    #[error("'{name}' is not a sweep name")]
    SweepName {
        /// The rejected string.
        name: String,
    },
}

/// The name of a sweep: 1 to 64 of `A-Z a-z 0-9 . _ -`, not starting with a dot or a dash, which is a safe folder name
/// on all systems.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SweepName(String);

impl SweepName {
    /// Checks a name. Errors: [`IdError::SweepName`].
    pub fn new(name: &str) -> Result<Self, IdError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if starts_well && name.len() <= 64 && name.chars().all(allowed) {
            Ok(Self(name.to_owned()))
        } else {
            Err(IdError::SweepName { name: name.to_owned() })
        }
    }

    /// The name as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SweepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SweepName {
    type Error = IdError;
    fn try_from(name: String) -> Result<Self, IdError> {
        Self::new(&name)
    }
}

impl From<SweepName> for String {
    fn from(name: SweepName) -> Self {
        name.0
    }
}

/// A device slot for one engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub usize);

/// A job's identity in the store: the first 16 hexadecimal digits of its subject key. Equal configurations in different
/// sweeps are one job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(String);

impl JobId {
    /// The id of the job that produces the subject with this digest.
    pub fn of(digest: Digest) -> Self {
        Self(digest.prefix(16))
    }

    /// An id as stored.
    pub fn from_store(text: String) -> Self {
        Self(text)
    }

    /// The id as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id's first eight digits, as in tables.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of an attempt at a job, counted from 1. It is also the fencing token: the store rejects late writes of an
/// older attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptNumber(pub u32);

impl fmt::Display for AttemptNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_name_is_a_safe_folder_name() {
        for good in ["a", "rank-alpha", "A.b_c-9", "_x"] {
            assert!(SweepName::new(good).is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", ".", "..", "-x", "a/b", "a b", "ü", "a\0", long.as_str()] {
            assert!(SweepName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_are_shown_as_they_are_stored() {
        let name = SweepName::new("rank-alpha").unwrap();
        assert_eq!(
            (name.as_str(), name.to_string().as_str(), String::from(name.clone()).as_str()),
            ("rank-alpha", "rank-alpha", "rank-alpha")
        );
        let id = JobId::from_store("0123456789abcdef".to_owned());
        assert_eq!(
            (id.as_str(), id.to_string().as_str(), id.short()),
            ("0123456789abcdef", "0123456789abcdef", "01234567")
        );
        assert_eq!(AttemptNumber(3).to_string(), "3");
    }
}
