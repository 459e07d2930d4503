//! Constants of a module, parsed from its source.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use super::expression::constant;
use super::field_function::FieldFunction;
use super::function::RowsFunction;
use super::samples::listed;
use super::{Answered, Module, Row, hashes};
use crate::job::Digest;
use crate::python::parse_literal;

/// The constants of a published function; none if the module or one beside it does not have them.
pub(super) fn of(answered: Answered, module: &Module<'_>, name: &str) -> Option<Row> {
    use FieldFunction::*;
    use RowsFunction::*;
    let named = |names: &[&str]| literals(module.source, names);
    match answered {
        Answered::Rows(OkapiTruthfulQaDocs) => named(&["QA_PROMPT"]),
        Answered::Rows(EgyptianMmluDocs | LevantineMmluDocs) => {
            named(&["subject_ar", "level_ar", "country_ar"])
        }
        Answered::Rows(KeepEqual) => made_filter(module.source, name),
        Answered::Field(GreekMmluText) => named(&["subjects_gr"]),
        Answered::Field(
            MafandEuropean | MafandAfrican | MafandToEuropean1 | MafandToAfrican1 | MafandToEuropean3
            | MafandToAfrican3,
        ) => named(&["languages"]),
        Answered::Field(XcopaText) => connector(module.source, name),
        Answered::Field(MmluProxText | MmluProxExampleText) => {
            let texts = checked(module, "../lang_libs.py", hashes::MMLU_PROX_LANGUAGES)?;
            let languages = literal(&texts, "LANG_LIBS")?;
            Some(single("language", languages.get(module.folder)?.clone()))
        }
        Answered::Samples(_) => Some(single("samples", listed(module.source, name)?)),
        Answered::Field(CultureText) => culture(module, hashes::CULTURE_PROMPTS),
        Answered::Field(CultureCompletionText) => culture(module, hashes::CULTURE_COMPLETION_PROMPTS),
        _ => Some(Row::new()),
    }
}

pub(super) fn single(name: &str, value: Value) -> Row {
    [(name.to_owned(), value)].into_iter().collect()
}

/// Another module, if its source is the published one.
fn checked(module: &Module<'_>, path: &str, digest: &str) -> Option<String> {
    (module.beside)(path).filter(|source| Digest::of(source.as_bytes()).to_string() == digest)
}

fn culture(module: &Module<'_>, digest: &str) -> Option<Row> {
    literals(&checked(module, "prompts.py", digest)?, &["BASE_PROMPT"])
}

fn literals(source: &str, names: &[&str]) -> Option<Row> {
    names.iter().map(|name| Some(((*name).to_owned(), literal(source, name)?))).collect()
}

/// The literal that a module assigns to a name.
pub(super) fn literal(source: &str, name: &str) -> Option<Value> {
    let assigned = format!("{name} = ");
    let start = match source.find(&format!("\n{assigned}")) {
        Some(at) => at + 1,
        None => source.starts_with(&assigned).then_some(0)?,
    };
    let rest = &source[start + assigned.len()..];
    // A literal ends at the end of a line; those before its end do not parse.
    let ends = rest.match_indices('\n').map(|(at, _)| at).chain([rest.len()]);
    ends.map(|end| &rest[..end]).find_map(parse_literal)
}

/// IndicParam: `NAME = _make_filter(SUBJECT_MAP["KEY"])`.
fn made_filter(source: &str, name: &str) -> Option<Row> {
    static MADE: LazyLock<Regex> =
        LazyLock::new(|| constant(r#"(?m)^(\w+) *= _make_filter\(SUBJECT_MAP\["(\w+)"\]\)$"#));
    let key = MADE.captures_iter(source).find(|found| &found[1] == name)?.get(2)?.as_str();
    // The map's closing brace stands before a comment, so it parses up to there.
    let value = literal(source, "SUBJECT_MAP")?.get(key)?.clone();
    Some(filter("subject", value))
}

/// The constants of a filter.
pub(super) fn filter(column: &str, value: impl Into<Value>) -> Row {
    [("column".to_owned(), json!(column)), ("value".to_owned(), value.into())].into_iter().collect()
}

/// XCOPA: `NAME = partial(doc_to_text, connector={…})`.
fn connector(source: &str, name: &str) -> Option<Row> {
    let from = source.split_once(&format!("\n{name} = partial(\n    doc_to_text,\n    connector="))?.1;
    let literal = from.split_once(",\n)\n")?.0;
    Some(single("connector", parse_literal(literal)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_of_several_lines_is_found() {
        let source = "import x\n\nA = (\n    \"Q: a\\n\"\n    \"b\"\n)\nB = {\n    \"k\": \"v\",\n}\n\n\ndef f():\n    A = 1\n";
        assert_eq!(literal(source, "A"), Some(json!("Q: a\nb")));
        assert_eq!(literal(source, "B"), Some(json!({ "k": "v" })));
        assert_eq!(literal(source, "C"), None);
    }

    #[test]
    fn connectors_and_subjects_belong_to_their_names() {
        let source = "def f():\n    pass\n\n\ntext_it = partial(\n    doc_to_text,\n    connector={\n        \"cause\": \"perché\",\n    },\n)\n";
        assert_eq!(connector(source, "text_it"), Some(single("connector", json!({ "cause": "perché" }))));
        assert_eq!(connector(source, "text_et"), None);
        let source = "SUBJECT_MAP = {\n    \"mix\": \"Sanskrit Mix\",\n}\n\nf_mix    = _make_filter(SUBJECT_MAP[\"mix\"])\n";
        assert_eq!(made_filter(source, "f_mix"), Some(filter("subject", "Sanskrit Mix")));
    }
}
