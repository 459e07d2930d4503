//! Functions recognized by matching their whole module, for families whose modules differ only in constants.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use super::constants::{filter, literal, single};
use super::expression::constant;
use super::field_function::FieldFunction;
use super::function::RowsFunction;
use super::{Answered, Recognized, Row};

/// The function of a module, if its source matches one of the patterns.
pub(super) fn recognize(source: &str, name: &str) -> Option<Recognized> {
    let (answered, constants) = afrimmlu(source, name)
        .or_else(|| afrixnli(source, name))
        .or_else(|| wrapped_filter(source, name))
        .or_else(|| category(source, name))?;
    Some(Recognized { answered, constants })
}

/// A template of `str.format` with these names and nothing else in braces.
fn is_template(text: &str, names: &[&str]) -> bool {
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('{') {
        let Some((name, after)) = from.split_once('}') else { return false };
        if before.contains('}') || !names.contains(&name) {
            return false;
        }
        rest = after;
    }
    // A backslash or a triple quote would have another meaning in Python's source.
    !rest.contains('}') && !text.contains('\\') && !text.contains("\"\"\"")
}

/// AfriMMLU's modules: choices from a Python list, and a template.
fn afrimmlu(source: &str, name: &str) -> Option<(Answered, Row)> {
    const HEAD: &str = "import ast\n\n# referenced as `!function utils.weighted_f1_score` in the task configs;\n# keep the import even though it looks unused (noqa guards against ruff --fix)\nfrom lm_eval.utils import weighted_f1_score  # noqa: F401\n\n\ndef doc_to_choice(doc):\n    choices = ast.literal_eval(doc[\"choices\"])\n    return choices\n\n\ndef doc_to_text(doc):\n    output = \"\"\"";
    const TAIL: &str = "\n\n    choices = ast.literal_eval(doc[\"choices\"])\n    text = output.format(\n        subject=doc[\"subject\"],\n        question=doc[\"question\"],\n        choice1=choices[0],\n        choice2=choices[1],\n        choice3=choices[2],\n        choice4=choices[3],\n    )\n    return text\n";
    let body = source.strip_prefix(HEAD)?;
    let without_subject = TAIL.replace("        subject=doc[\"subject\"],\n", "");
    let template =
        body.strip_suffix(TAIL).or_else(|| body.strip_suffix(&without_subject))?.strip_suffix("\"\"\"")?;
    let names = ["subject", "question", "choice1", "choice2", "choice3", "choice4"];
    let names = if body.ends_with(TAIL) { &names[..] } else { &names[1..] };
    if !is_template(template, names) {
        return None;
    }
    match name {
        "doc_to_choice" => Some((Answered::Field(FieldFunction::AfricanChoice), Row::new())),
        "doc_to_text" => {
            Some((Answered::Field(FieldFunction::AfricanTemplateText), single("template", json!(template))))
        }
        _ => None,
    }
}

/// AfriXNLI's modules: the names of the labels, and in some a template.
fn afrixnli(source: &str, name: &str) -> Option<(Answered, Row)> {
    static LABELS: LazyLock<Regex> = LazyLock::new(|| {
        constant(
            r#"\Adef doc_to_target\(doc\):\n    replacements = \{0: "([^"\\]+)", 1: "([^"\\]+)", 2: "([^"\\]+)"\}\n    return replacements\[doc\["label"\]\]\n\z"#,
        )
    });
    const TEXT: &str = "def doc_to_text(doc):\n    output = \"\"\"";
    const FILLED: &str = "\"\"\"\n\n    text = output.format(premise=doc[\"premise\"], hypothesis=doc[\"hypothesis\"])\n    return text\n\n\n";
    let body = source.strip_prefix("from lm_eval.utils import weighted_f1_score\n\n\n")?;
    let at = body.find("def doc_to_target(doc):")?;
    let (before, target) = body.split_at(at);
    let labels = LABELS.captures(target)?;
    let template = if before.is_empty() {
        None
    } else {
        let template = before.strip_prefix(TEXT)?.strip_suffix(FILLED)?;
        Some(is_template(template, &["premise", "hypothesis"]).then_some(template)?)
    };
    match name {
        "doc_to_target" => {
            let labels = [&labels[1], &labels[2], &labels[3]];
            Some((Answered::Field(FieldFunction::AfricanLabel), single("labels", json!(labels))))
        }
        "doc_to_text" => {
            let constants = single("template", json!(template?));
            Some((Answered::Field(FieldFunction::AfricanTemplateText), constants))
        }
        _ => None,
    }
}

/// `def NAME(dataset): return BASE(dataset, "VALUE")`, where BASE keeps rows whose column equals its second argument, or
/// starts with it.
fn wrapped_filter(source: &str, name: &str) -> Option<(Answered, Row)> {
    static WRAPPER: LazyLock<Regex> = LazyLock::new(|| {
        constant(
            r#"\A\(dataset: datasets\.Dataset\) -> datasets\.Dataset:\n    return (\w+)\(dataset, "([^"\\]*)"\)\n(?:\n\n|\z)"#,
        )
    });
    static BASE: LazyLock<Regex> = LazyLock::new(|| {
        constant(
            r#"\A\(dataset: datasets\.Dataset, (\w+): str\) -> datasets\.Dataset:\n(?:    """[^"\\]*"""\n)?    return dataset\.filter\(lambda example: example\["(\w+)"\](?: == (\w+)|\.startswith\((\w+)\))\)\n\n\n"#,
        )
    });
    let wrapper = WRAPPER.captures(after_only_definition(source, name)?)?;
    let base = BASE.captures(after_only_definition(source, &wrapper[1])?)?;
    let (equal, prefix) = (base.get(3), base.get(4));
    if equal.or(prefix)?.as_str() != &base[1] {
        return None;
    }
    let function = if equal.is_some() { RowsFunction::KeepEqual } else { RowsFunction::KeepPrefix };
    Some((Answered::Rows(function), filter(&base[2], &wrapper[2])))
}

/// What follows `def NAME`, if the module binds the name nowhere else.
fn after_only_definition<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    let bound = |pattern: String| Regex::new(&pattern).ok().map(|regex| regex.find_iter(source).count());
    let word = regex::escape(name);
    if bound(format!(r"\bdef\s+{word}\b"))? != 1 || bound(format!(r"(?m)^{word}\s*(?::[^=\n]*)?="))? != 0 {
        return None;
    }
    source.split_once(&format!("def {name}")).map(|(_, after)| after)
}

/// A dictionary of partials by lower-case category, added to the module's globals.
fn category(source: &str, name: &str) -> Option<(Answered, Row)> {
    static MODULE: LazyLock<Regex> = LazyLock::new(|| {
        constant(
            r#"\Afrom functools import partial\n\n\nCATEGORIES = \[[^\]]*\]\n\n\ndef process_docs\(dataset, category\):\n    return dataset\.filter\(lambda x: x\["(\w+)"\] == category\)\n\n\nprocess_functions = \{\n    f"process_\{category\.lower\(\)\.replace\(' ', '_'\)\}": partial\(\n        process_docs, category=category\n    \)\n    for category in CATEGORIES\n\}\n\nglobals\(\)\.update\(process_functions\)\n\z"#,
        )
    });
    let found = MODULE.captures(source)?;
    let categories = literal(source, "CATEGORIES")?;
    let category = categories.as_array()?.iter().filter_map(Value::as_str).find(|category| {
        name.strip_prefix("process_") == Some(category.to_lowercase().replace(' ', "_").as_str())
    })?;
    Some((Answered::Rows(RowsFunction::KeepEqual), filter(&found[1], category)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const XNLI: &str = "from lm_eval.utils import weighted_f1_score\n\n\ndef doc_to_text(doc):\n    output = \"\"\"P: {premise}\nH: {hypothesis}\"\"\"\n\n    text = output.format(premise=doc[\"premise\"], hypothesis=doc[\"hypothesis\"])\n    return text\n\n\ndef doc_to_target(doc):\n    replacements = {0: \"True\", 1: \"Neither\", 2: \"False\"}\n    return replacements[doc[\"label\"]]\n";
    const CROWS: &str = "import datasets\n\n\ndef filter_dataset(dataset: datasets.Dataset, bias: str) -> datasets.Dataset:\n    return dataset.filter(lambda example: example[\"bias\"].startswith(bias))\n\n\ndef filter_age(dataset: datasets.Dataset) -> datasets.Dataset:\n    return filter_dataset(dataset, \"age\")\n";

    #[test]
    fn labels_and_templates_come_from_the_source() {
        let labels = recognize(XNLI, "doc_to_target").unwrap();
        assert_eq!(labels.constants, single("labels", json!(["True", "Neither", "False"])));
        let template = recognize(XNLI, "doc_to_text").unwrap();
        assert_eq!(template.constants, single("template", json!("P: {premise}\nH: {hypothesis}")));
    }

    #[test]
    fn any_other_line_makes_a_module_unknown() {
        for (from, to) in [
            ("return text", "return text.strip()"),
            ("{hypothesis}\"\"\"", "{label}\"\"\""),
            ("H: ", "H:\\t"),
            ("H: ", "H{{}}: "),
            ("2: \"False\"", "3: \"False\""),
            ("doc[\"label\"]]\n", "doc[\"label\"]]\n\n\nprint(1)\n"),
        ] {
            let changed = XNLI.replace(from, to);
            assert_ne!(changed, XNLI);
            assert_eq!(recognize(&changed, "doc_to_target"), None, "{changed}");
        }
    }

    #[test]
    fn a_wrapper_passes_its_value_to_the_filter() {
        let found = recognize(CROWS, "filter_age").unwrap();
        assert_eq!(found.answered, Answered::Rows(RowsFunction::KeepPrefix));
        assert_eq!(found.constants, filter("bias", "age"));
        assert_eq!(recognize(CROWS, "filter_dataset"), None);
        for (from, to) in [("startswith(bias)", "startswith(x)"), ("\"age\")\n", "\"age\").map(f)\n")] {
            assert_eq!(recognize(&CROWS.replace(from, to), "filter_age"), None);
        }
        let again = format!("{CROWS}\n\nfilter_age = None\n");
        assert_eq!(recognize(&again, "filter_age"), None);
    }
}
