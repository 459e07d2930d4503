//! `[derive]`, `[[when]]` and `[[exclude]]`.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::{Item, Name, Parser};
use crate::job::{KeyKind, ValueType};
use crate::sweep_file::error::Problem;
use crate::sweep_file::expression::Expression;
use crate::sweep_file::sweep::{Condition, Derive, When};

/// This key decides defaults, so no rule can set it.
const PROFILE: &str = "profile";

impl Parser<'_> {
    pub(super) fn derived(&mut self, name: &Name<'_>, item: &Item<'_>) {
        let Some(key) = self.key(name.get_ref(), name.span()) else { return };
        if key.path == PROFILE {
            return self.problem(Problem::Undecidable { path: PROFILE }, name.span());
        }
        let Some((expression, text)) = self.expression(key.path, item) else { return };
        let (wanted, found) = (key.kind.value_type(), expression.value_type());
        // A list of words can also be spelled "all".
        let all = matches!(key.kind, KeyKind::ChoiceSet(_)) && found == ValueType::Text;
        if found != wanted && !all {
            let (path, found, wanted) = (key.path.to_owned(), found.describe(), wanted.describe());
            return self.problem(Problem::ExpressionType { path, found, wanted }, item.span());
        }
        self.derive.push(Derive { key, expression, text: text.into(), span: item.span() });
    }

    pub(super) fn when_rule(&mut self, rule: &Item<'_>) {
        let Some(table) = self.rule(rule, &["if", "set"]) else { return };
        let condition = self.condition(table, rule.span());
        let set = table.iter().find(|(name, _)| name.get_ref() == "set");
        let Some((_, set)) = set else {
            return self.problem(Problem::Missing { path: "set".to_owned() }, rule.span());
        };
        let DeValue::Table(set) = set.get_ref() else {
            return self.form(
                "set",
                "no table",
                "the keys to set as { \"train.momentum\" = 0.9 }",
                set.span(),
            );
        };
        let mut values = Vec::new();
        for (name, item) in set {
            let Some(key) = self.key(name.get_ref(), name.span()) else { continue };
            if key.path == PROFILE {
                self.problem(Problem::Undecidable { path: PROFILE }, name.span());
            } else if let Some(value) = self.value(key, item) {
                values.push((key, value));
            }
        }
        if let Some(condition) = condition {
            let (line, _) = self.source.place(condition.span.start);
            self.when.push(When { condition, set: values, line });
        }
    }

    pub(super) fn exclude_rule(&mut self, rule: &Item<'_>) {
        let Some(table) = self.rule(rule, &["if"]) else { return };
        if let Some(condition) = self.condition(table, rule.span()) {
            self.exclude.push(condition);
        }
    }

    /// The table of a rule, which may only have these keys.
    fn rule<'b, 'c>(&mut self, rule: &'b Item<'c>, known: &[&str]) -> Option<&'b DeTable<'c>> {
        let DeValue::Table(table) = rule.get_ref() else {
            self.form("rule", "no table", "each rule as [[when]] or [[exclude]]", rule.span());
            return None;
        };
        for (name, _) in table {
            if !known.contains(&name.get_ref().as_ref()) {
                let path = name.get_ref().to_string();
                self.problem(Problem::UnknownKey { path, nearest: Some(known[0].to_owned()) }, name.span());
            }
        }
        Some(table)
    }

    fn condition(&mut self, table: &DeTable<'_>, rule: Range<usize>) -> Option<Condition> {
        let Some((_, item)) = table.iter().find(|(name, _)| name.get_ref() == "if") else {
            self.problem(Problem::Missing { path: "if".to_owned() }, rule);
            return None;
        };
        let (expression, text) = self.expression("if", item)?;
        if expression.value_type() != ValueType::Bool {
            let (found, wanted) = (expression.value_type().describe(), ValueType::Bool.describe());
            self.problem(Problem::ExpressionType { path: "if".to_owned(), found, wanted }, item.span());
            return None;
        }
        Some(Condition { expression, text, span: item.span() })
    }

    /// A parsed expression and its source, or a problem at its location inside the quotes.
    fn expression(&mut self, path: &str, item: &Item<'_>) -> Option<(Expression, String)> {
        let DeValue::String(text) = item.get_ref() else {
            self.form(path, "not a string", "the expression in quotes", item.span());
            return None;
        };
        match Expression::parse(text) {
            Ok(expression) => Some((expression, text.to_string())),
            Err((error, within)) => {
                let span = self.inside(item.span(), text, within);
                self.problem(Problem::Expression { path: path.to_owned(), error }, span);
                None
            }
        }
    }

    /// Maps a byte range of a quoted string to a byte range of the file. A string with escapes cannot be mapped: then the whole string is
    /// returned.
    fn inside(&self, whole: Range<usize>, text: &str, within: Range<usize>) -> Range<usize> {
        let raw = &self.source.text()[whole.clone()];
        match raw.find(text) {
            Some(start) => whole.start + start + within.start..whole.start + start + within.end,
            None => whole,
        }
    }

    /// Sorts derived keys so that each comes after its dependencies.
    pub(super) fn order_derived(&mut self) -> Vec<Derive> {
        let mut ordered: Vec<Derive> = Vec::new();
        let mut waiting = std::mem::take(&mut self.derive);
        while !waiting.is_empty() {
            let ready = |entry: &Derive| {
                entry.expression.keys().iter().all(|key| !waiting.iter().any(|other| other.key.path == *key))
            };
            let Some(at) = waiting.iter().position(ready) else {
                let keys = waiting.iter().map(|entry| entry.key.path.to_owned()).collect();
                self.problem(Problem::Cycle { keys }, waiting[0].span.clone());
                break;
            };
            ordered.push(waiting.remove(at));
        }
        ordered
    }
}
