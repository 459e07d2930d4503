//! The two environments: lm_eval's for task files, transformers' for chat templates.

use std::fmt;

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior};
use serde::{Deserialize, Serialize};

use super::spelling::spelled;
use super::tuple::{TUPLE, tuple};
use super::{filters, generation, json, methods};

/// Step limit against endless templates.
const FUEL: u64 = 20_000_000;

/// The date that `strftime_now` of chat templates formats: it is part of the training data, so it never depends on the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TemplateDate(jiff::civil::Date);

impl TemplateDate {
    /// The default of the key `template_date`.
    pub const DEFAULT: &'static str = "2025-01-01";

    /// Parses a date as `YYYY-MM-DD`. None: not a date.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

impl Default for TemplateDate {
    fn default() -> Self {
        Self(jiff::civil::date(2025, 1, 1))
    }
}

impl fmt::Display for TemplateDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An environment for the fields of task files: undefined names are errors.
pub fn task_environment() -> Environment<'static> {
    let mut environment = common();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_keep_trailing_newline(true);
    environment.add_filter("regex_replace", filters::regex_replace);
    environment
}

/// An environment for chat templates, as transformers compiles them.
pub fn chat_environment(date: TemplateDate) -> Environment<'static> {
    let mut environment = common();
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_filter("tojson", json::tojson);
    environment.add_filter(generation::FILTER, generation::mark);
    environment.add_function("raise_exception", |reason: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, reason))
    });
    environment.add_function("strftime_now", move |format: String| strftime(&format, date));
    environment
}

/// Settings shared by both.
fn common() -> Environment<'static> {
    let mut environment = Environment::new();
    // A template's name implies no format: nothing is escaped.
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(methods::method);
    environment.set_formatter(format);
    environment.add_function(TUPLE, tuple);
    environment.add_filter("int", filters::int);
    environment.add_filter("string", filters::string);
    environment.add_filter("join", filters::join);
    environment.add_filter("replace", filters::replace);
    environment.add_filter("title", |text: String| methods::title(&text));
    environment
}

fn format(out: &mut Output<'_>, state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Bool
        | ValueKind::None
        | ValueKind::Seq
        | ValueKind::Map
        | ValueKind::Number
        | ValueKind::Iterable => out.write_str(&spelled(value)?).map_err(Error::from),
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// Python's `strftime` for midnight of a date. Error: an unknown directive.
fn strftime(format: &str, date: TemplateDate) -> Result<String, Error> {
    let time = date.0.at(0, 0, 0, 0);
    jiff::fmt::strtime::format(format, time)
        .map_err(|e| Error::new(ErrorKind::InvalidOperation, e.to_string()))
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::super::with_tuples;
    use super::*;

    fn render(template: &str) -> String {
        let values = context! { text => " Ab ", list => ["x", "it's"], n => 3, yes => true, none => () };
        task_environment().render_str(&with_tuples(template), values).unwrap()
    }

    fn chat(template: &str) -> String {
        let date = TemplateDate::parse("2024-07-26").unwrap();
        chat_environment(date).render_str(&with_tuples(template), context! { none => () }).unwrap()
    }

    #[test]
    fn values_are_spelled_as_python_does() {
        assert_eq!(render("{{ list }} {{ yes }} {{ none }} {{ n }}"), "['x', \"it's\"] True None 3");
        assert_eq!(render("{{ [n, 1.0, {'a': yes}] }}"), "[3, 1.0, {'a': True}]");
        assert_eq!(render("{{ list|string }}|{{ [1, yes]|join(', ') }}"), "['x', \"it's\"]|1, True");
        assert_eq!(render("{{ (1, 'a') }}{{ (n,) }}{{ ((1, 2), [3]) }}"), "(1, 'a')(3,)((1, 2), [3])");
        assert_eq!(render("{{ {'a': 1}.items() | list }}"), "[('a', 1)]");
    }

    #[test]
    fn methods_and_filters_are_pythons() {
        assert_eq!(render("{{ text.strip() }}{{ list.index(\"it's\") }}{{ 'abc'.index('c') }}"), "Ab12");
        assert_eq!(render("{{ 'x7'|int }}{{ ' 7 '|int }}{{ yes|int }}{{ 'x'|int(9) }}"), "0719");
        assert_eq!(render("{{ 'a1b2'|regex_replace('([a-z])(\\\\d)', '\\\\2$\\\\1') }}"), "1$a2$b");
        assert_eq!(render("{{ text[1:] }}{{ list[-1] }}\n"), "Ab it's\n");
        assert_eq!(render("{{ 'éb'.find('b') }}{{ \"they're x1y\".title() }}"), "1They'Re X1Y");
    }

    #[test]
    fn an_undefined_name_is_an_error_in_a_task_file_and_nothing_in_a_chat() {
        assert!(task_environment().render_str("{{ nothing }}", ()).is_err());
        assert!(task_environment().render_str("{{ list.index('z') }}", context! { list => ["x"] }).is_err());
        assert_eq!(chat("{{ nothing }}{{ nothing is defined }}"), "False");
    }

    #[test]
    fn json_is_what_python_dumps() {
        assert_eq!(
            chat(r#"{{ {'b': [1, 2.0, none], 'a': "é<'"} | tojson }}"#),
            r#"{"b": [1, 2.0, null], "a": "é<'"}"#
        );
        assert_eq!(
            chat("{{ {'a': [1, {}], 'b': []} | tojson(indent=2) }}"),
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}"
        );
        assert_eq!(
            chat(
                "{{ {'b': 'é😀', 'a': 1} | tojson(ensure_ascii=true, sort_keys=true, separators=(',', ':')) }}"
            ),
            "{\"a\":1,\"b\":\"\\u00e9\\ud83d\\ude00\"}"
        );
    }

    #[test]
    fn the_day_of_a_chat_is_the_one_that_is_given() {
        assert_eq!(chat("{{ strftime_now('%d %b %Y, %A') }}"), "26 Jul 2024, Friday");
        assert_eq!(TemplateDate::default(), TemplateDate::parse(TemplateDate::DEFAULT).unwrap());
    }

    #[test]
    fn loop_controls_work_and_an_endless_template_ends() {
        assert_eq!(
            chat(
                "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}"
            ),
            "02"
        );
        let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
        assert!(chat_environment(TemplateDate::default()).render_str(endless, ()).is_err());
    }
}
