//! Functions recognized by matching their whole source.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::python::parse_literal;

/// Keeps rows whose column equals a string.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RowFilter {
    /// The column.
    pub column: String,
    /// Its required value.
    pub equals: String,
    /// Whether the column is first truncated at `_test.csv` or `_test-`.
    pub cut_test: bool,
}

impl RowFilter {
    /// Whether a row is kept.
    pub fn keeps(&self, row: &crate::data::Row) -> bool {
        let Some(Value::String(text)) = row.get(&self.column) else { return false };
        let end = if self.cut_test {
            ["_test.csv", "_test-"].iter().find_map(|marker| text.find(marker)).unwrap_or(text.len())
        } else {
            text.len()
        };
        text[..end] == self.equals
    }
}

fn regex(pattern: &str) -> Regex {
    // A constant pattern of this file; a test compiles each.
    Regex::new(pattern).unwrap_or_else(|error| panic!("{error}"))
}

/// `def NAME(dataset, PARAMETER): return dataset.filter(lambda x: x["COLUMN"] == VALUE)`, annotated or not.
static FILTER: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r#"(?m)^def\s+(\w+)\(\s*dataset(?:\s*:\s*[\w.]+)?\s*(?:,\s*(\w+)(?:\s*:\s*\w+)?\s*)?,?\s*\)(?:\s*->\s*[\w.]+)?:\s*return\s+dataset\.filter\(\s*lambda\s+(\w+)\s*:\s*(\w+)\[["']([^"'\\]+)["']\]\s*==\s*(\w+|f?"[^"\\]*"|f?'[^'\\]*')\s*,?\s*\)\s*(?:\n\S|\z)"#,
    )
});
/// `NAME = partial(FUNCTION, PARAMETER="VALUE")`
static PARTIAL: LazyLock<Regex> = LazyLock::new(|| {
    regex(r#"(?m)^(\w+)\s*=\s*partial\(\s*(\w+)\s*,\s*(\w+)\s*=\s*(?:"([^"\\]*)"|'([^'\\]*)')\s*,?\s*\)\s*$"#)
});
/// A dictionary of partials by name, added to the module's globals.
static REGISTERED: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r#"(?m)^process_functions\s*=\s*\{\s*f"process_\{(\w+)(\.lower\(\)\.replace\(' & ', '_'\)\.replace\(' ', '_'\))?\}"\s*:\s*partial\(\s*(\w+)\s*,\s*(\w+)\s*=\s*(\w+)\s*,?\s*\)\s*for\s+(\w+)\s+in\s+([A-Z_]+)\s*\}\s*globals\(\)\.update\(process_functions\)\s*\z"#,
    )
});
/// MMMLU's own variant.
static MMMLU: &[&str] = &[
    "for marker in (\"_test.csv\", \"_test-\"):\n        idx = name.find(marker)\n        if idx != -1:\n            return name[:idx]\n    return name\n",
    "row_subject = _normalize_subject_name(row[\"Subject\"])\n        return row_subject == target\n\n    return dataset.filter(_predicate)\n",
    "for subject in SUBJECTS:\n        globals()[f\"process_{subject}\"] = partial(_filter_subject, subject=subject)\n",
];

/// The filter of a module's function, if its source matches one of the patterns.
pub(in crate::task) fn row_filter(module: &str, name: &str) -> Option<RowFilter> {
    if MMMLU.iter().all(|part| module.contains(part)) {
        let subject = name.strip_prefix("process_")?;
        return Some(RowFilter { column: "Subject".into(), equals: subject.into(), cut_test: true });
    }
    if let Some(base) = find_filter(module, name).filter(|base| base.parameter.is_none()) {
        return base.with(None);
    }
    for partial in PARTIAL.captures_iter(module) {
        if partial.get(1)?.as_str() == name {
            let base =
                find_filter(module, &partial[2]).filter(|b| b.parameter.as_deref() == Some(&partial[3]))?;
            return base.with(partial.get(4).or(partial.get(5)).map(|value| value.as_str()));
        }
    }
    registered(module, name)
}

/// A function in a dictionary built by a comprehension over a list of strings.
fn registered(module: &str, name: &str) -> Option<RowFilter> {
    let found = REGISTERED.captures(module)?;
    let (variable, base, parameter) = (&found[1], &found[3], &found[4]);
    if found[5] != *variable || found[6] != *variable {
        return None;
    }
    let list = regex(&format!(r"(?ms)^{}\s*=\s*(\[.*?^\])", &found[7]));
    let Value::Array(values) = parse_literal(list.captures(module)?.get(1)?.as_str())? else { return None };
    let shorten = found.get(2).is_some();
    let value = values.iter().filter_map(Value::as_str).find(|value| {
        let key = if shorten {
            value.to_lowercase().replace(" & ", "_").replace(' ', "_")
        } else {
            (*value).to_owned()
        };
        name == format!("process_{key}")
    })?;
    find_filter(module, base).filter(|b| b.parameter.as_deref() == Some(parameter))?.with(Some(value))
}

/// A function of the first pattern.
struct Filter {
    column: String,
    parameter: Option<String>,
    /// The comparison value, as written.
    value: String,
}

fn find_filter(module: &str, name: &str) -> Option<Filter> {
    let mut at = 0;
    while let Some(found) = FILTER.captures_at(module, at) {
        let whole = found.get(0)?;
        if &found[1] == name && found[3] == found[4] {
            let parameter = found.get(2).map(|word| word.as_str().to_owned());
            return Some(Filter { column: found[5].to_owned(), parameter, value: found[6].to_owned() });
        }
        at = whole.end().saturating_sub(1).max(whole.start() + 1);
    }
    None
}

impl Filter {
    /// The filter with the parameter's value.
    fn with(self, given: Option<&str>) -> Option<RowFilter> {
        let written = self.value.as_str();
        let equals =
            if let Some(inside) = written.strip_prefix('f').filter(|rest| rest.starts_with(['"', '\''])) {
                let hole = format!("{{{}}}", self.parameter?);
                let text = &inside[1..inside.len() - 1];
                let filled = text.replace(&hole, given?);
                if text.matches('{').count() != 1 || !text.contains(&hole) {
                    return None;
                }
                filled
            } else if written.starts_with(['"', '\'']) {
                written[1..written.len() - 1].to_owned()
            } else if Some(written) == self.parameter.as_deref() {
                given?.to_owned()
            } else {
                return None;
            };
        Some(RowFilter { column: self.column, equals, cut_test: false })
    }
}

/// `items` to golds and predictions, then scikit-learn's weighted F1.
static WEIGHTED_F1: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r#"(?m)^def\s+(\w+)\(items\):\s*(?:from\s+sklearn\.metrics\s+import\s+f1_score\s*)?unzipped_list\s*=\s*list\(zip\(\*items(?:,\s*strict=True)?\)\)\s*golds\s*=\s*unzipped_list\[0\]\s*preds\s*=\s*unzipped_list\[1\]\s*fscore\s*=\s*f1_score\(golds,\s*preds,\s*average="weighted"\)\s*return\s+fscore\s*$"#,
    )
});
/// The same, imported.
static IMPORTED_F1: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"(?m)^from\s+lm_eval\.utils\s+import\s+(?:\([^)]*\b)?[^\n]*\bweighted_f1_score\b")
});

/// Whether a module's function is the weighted F1.
pub(in crate::task) fn is_weighted_f1(module: &str, name: &str) -> bool {
    let defined = WEIGHTED_F1.captures_iter(module).any(|found| &found[1] == name);
    let redefined = module.contains(&format!("def {name}("));
    defined || (name == "weighted_f1_score" && !redefined && IMPORTED_F1.is_match(module))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(module: &str, name: &str) -> Option<(String, String)> {
        row_filter(module, name).map(|found| (found.column, found.equals))
    }

    fn pair(column: &str, equals: &str) -> Option<(String, String)> {
        Some((column.to_owned(), equals.to_owned()))
    }

    #[test]
    fn a_filter_on_a_constant_is_known() {
        let module = "import datasets\n\n\ndef ar_dr(dataset: datasets.Dataset):\n    return dataset.filter(lambda x: x[\"direction\"] == \"ar_dr\")\n\n\ndef other(dataset):\n    return dataset.filter(lambda x: x[\"a\"] == 'b')\n";
        assert_eq!(filter(module, "ar_dr"), pair("direction", "ar_dr"));
        assert_eq!(filter(module, "other"), pair("a", "b"));
        assert_eq!(filter(module, "third"), None);
    }

    #[test]
    fn partials_fill_in_the_constant() {
        let module = "from functools import partial\n\ndef process_docs(dataset: datasets.Dataset, subtask) -> datasets.Dataset:\n    return dataset.filter(\n        lambda example: example[\"subtask_name\"] == f\"mmlu_es_chat.{subtask}\"\n    )\n\n\nprocess_docs_law = partial(process_docs, subtask=\"law\")\nprocess_docs_long = partial(\n    process_docs, subtask=\"long_name\"\n)\n";
        assert_eq!(filter(module, "process_docs_law"), pair("subtask_name", "mmlu_es_chat.law"));
        assert_eq!(filter(module, "process_docs_long"), pair("subtask_name", "mmlu_es_chat.long_name"));
        assert_eq!(filter(module, "process_docs"), None);
    }

    #[test]
    fn a_dictionary_of_partials_is_known_by_its_list() {
        let module = "from functools import partial\n\nCATEGORIES = [\n    \"Applied Science\",\n    \"Arts & Humanities\",\n]\n\n\ndef process_docs(dataset, category):\n    return dataset.filter(lambda x: x[\"domain\"] == category)\n\n\nprocess_functions = {\n    f\"process_{category.lower().replace(' & ', '_').replace(' ', '_')}\": partial(\n        process_docs, category=category\n    )\n    for category in CATEGORIES\n}\n\nglobals().update(process_functions)\n";
        assert_eq!(filter(module, "process_arts_humanities"), pair("domain", "Arts & Humanities"));
        assert_eq!(filter(module, "process_sports"), None);
    }

    #[test]
    fn one_more_line_in_a_function_makes_it_unknown() {
        for module in [
            "def f(dataset):\n    print(1)\n    return dataset.filter(lambda x: x[\"a\"] == \"b\")\n",
            "def f(dataset):\n    return dataset.filter(lambda x: x[\"a\"] == \"b\").map(g)\n",
            "def f(dataset):\n    return dataset.filter(lambda x: x[\"a\"] != \"b\")\n",
            "def f(dataset):\n    return dataset.filter(lambda x: x[\"a\"] == \"b\" or True)\n",
            "def f(dataset):\n    return dataset.filter(lambda x: y[\"a\"] == \"b\")\n",
            "def f(dataset, k):\n    return dataset.filter(lambda x: x[\"a\"] == z)\n\ng = partial(f, k=\"b\")\n",
        ] {
            assert_eq!((filter(module, "f"), filter(module, "g")), (None, None), "{module}");
        }
    }

    #[test]
    fn a_subject_is_cut_at_its_file_name() {
        let found = RowFilter { column: "Subject".into(), equals: "law".into(), cut_test: true };
        let row = |text: &str| [("Subject".to_owned(), text.into())].into_iter().collect();
        assert!(found.keeps(&row("law_test.csv_sw-KE.csv")) && found.keeps(&row("law")));
        assert!(!found.keeps(&row("law_dev.csv")));
    }

    #[test]
    fn weighted_f1_is_known_by_its_text_or_its_import() {
        let text = "def agg(items):\n    unzipped_list = list(zip(*items))\n    golds = unzipped_list[0]\n    preds = unzipped_list[1]\n    fscore = f1_score(golds, preds, average=\"weighted\")\n    return fscore\n";
        assert!(is_weighted_f1(text, "agg"));
        assert!(!is_weighted_f1(&text.replace("weighted", "micro"), "agg"));
        assert!(is_weighted_f1("from lm_eval.utils import weighted_f1_score\n", "weighted_f1_score"));
        assert!(!is_weighted_f1("from elsewhere import weighted_f1_score\n", "weighted_f1_score"));
    }
}
