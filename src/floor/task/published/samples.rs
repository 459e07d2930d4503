//! Fixed examples of few-shot prompts, which are functions in the task files.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Row;

/// Lists examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplesFunction {
    /// The list that the module's function returns, parsed from its source as the constant `samples`.
    ListedSamples,
}

impl SamplesFunction {
    /// The examples.
    pub fn samples(self, constants: &Row) -> Result<Vec<Row>, String> {
        let samples = super::text::list(constants, "samples")?;
        let rows: Option<Vec<Row>> = samples.iter().map(|sample| sample.as_object().cloned()).collect();
        rows.ok_or_else(|| "'samples' must be a list of mappings".to_owned())
    }
}

/// The list returned by `def NAME() -> …: return […]`.
pub(super) fn listed(source: &str, name: &str) -> Option<Value> {
    let after = source.split_once(&format!("\ndef {name}() -> list[dict]:\n    return "))?.1;
    let literal = after.split_once("\n\n\n").map_or(after, |(literal, _)| literal);
    crate::python::parse_literal(literal)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn examples_are_parsed_from_the_source() {
        let source = "import re\n\n\ndef shots() -> list[dict]:\n    return [\n        {\n            \"a\": \"b\\\\n\\n\",\n        },\n    ]\n\n\nx = 1\n";
        let constants = super::super::constants::single("samples", listed(source, "shots").unwrap());
        let rows = SamplesFunction::ListedSamples.samples(&constants).unwrap();
        assert_eq!(rows[0]["a"], json!("b\\n\n"));
    }
}
