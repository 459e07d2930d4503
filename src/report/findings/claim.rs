//! Claims files: expected relations between jobs of a sweep.

use serde::Deserialize;
use thiserror::Error;

use crate::sweep_file::Expression;

/// A claims file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Its description.
    #[serde(default)]
    pub title: Option<String>,
    /// The claims.
    #[serde(rename = "claim")]
    pub claims: Vec<Claim>,
}

/// A claim: how the second jobs compare with the first.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The statement in words.
    pub text: String,
    /// The sweep.
    pub sweep: String,
    /// The baseline jobs.
    pub first: Side,
    /// The jobs that the claim is about.
    pub second: Side,
    /// Tasks, `task:metric`, or one of time, memory, loss and converged; all tasks of the sweep if none is listed.
    #[serde(default)]
    pub metrics: Vec<String>,
    /// The expected relation.
    pub expect: Expect,
    /// The pairs that it must hold for.
    #[serde(default)]
    pub pairs: OfPairs,
    /// Whether a direction must hold for every metric, not for at least one.
    #[serde(default)]
    pub everywhere: bool,
    /// The largest difference at which scores still count as equal.
    #[serde(default = "default_within")]
    pub within: f64,
    /// The factor by which a time, memory or loss must differ at least.
    #[serde(default = "default_factor")]
    pub factor: f64,
}

fn default_within() -> f64 {
    0.02
}

fn default_factor() -> f64 {
    1.05
}

/// The jobs of one side.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub enum Side {
    /// The base model.
    Base,
    /// The grid jobs that meet a condition.
    Where(Expression),
}

impl TryFrom<String> for Side {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "base" {
            return Ok(Self::Base);
        }
        let expression = Expression::parse(&text).map_err(|(error, _)| format!("'{text}': {error}"))?;
        let is_bool = expression.value_type() == crate::job::ValueType::Bool;
        if is_bool { Ok(Self::Where(expression)) } else { Err(format!("'{text}' is neither true nor false")) }
    }
}

impl Side {
    /// The keys that it reads.
    pub(super) fn keys(&self) -> Vec<&'static str> {
        match self {
            Self::Base => Vec::new(),
            Self::Where(expression) => expression.keys(),
        }
    }
}

/// For which pairs of jobs a claim must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfPairs {
    /// For each pair.
    #[default]
    Every,
    /// For at least one pair.
    Any,
}

/// The expected relation of the second jobs to the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// A larger number.
    Higher,
    /// A smaller number.
    Lower,
    /// Better in the metric's own direction.
    Better,
    /// Worse in it.
    Worse,
    /// Not better by more than `within`.
    NotBetter,
    /// Not differing by more than `within`.
    Equal,
}

/// An invalid claims file.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct ClaimsError(String);

impl Claim {
    fn check(&self) -> Result<(), ClaimsError> {
        let wrong = |what: &str| Err(ClaimsError(format!("the claim '{}': {what}", self.text)));
        if !self.within.is_finite() || self.within < 0.0 {
            return wrong("within is a number from 0 on");
        }
        if !self.factor.is_finite() || self.factor < 1.0 {
            return wrong("factor is a number from 1 on");
        }
        Ok(())
    }
}

impl Claims {
    /// Parses a claims file. Error: what is wrong, with its line or its claim.
    pub fn parse(text: &str) -> Result<Self, ClaimsError> {
        let parsed: Self =
            toml::from_str(text).map_err(|error| ClaimsError(error.to_string().trim_end().to_owned()))?;
        parsed.claims.iter().try_for_each(Claim::check)?;
        Ok(parsed)
    }
}
