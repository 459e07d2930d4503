//! Every configuration key of a sweep file: its type, its range, its default, its meaning. Parser, axes, `derive`
//! and documentation read this one table.

use std::collections::BTreeMap;
use std::fmt;

use super::value::{Value, ValueError};

/// The type and range of a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KeyKind {
    /// A whole number of at least `min` and at most `max`.
    Integer {
        /// Smallest allowed value.
        min: i64,
        /// Largest allowed value.
        max: i64,
    },
    /// A finite number with `min` ≤ x ≤ `max`, or `min` < x where `open` is set.
    Number {
        /// Smallest allowed value.
        min: f64,
        /// Largest allowed value.
        max: f64,
        /// Whether `min` itself is refused.
        open: bool,
    },
    /// Any text but the empty one.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A set of these words; `"all"` stands for every one.
    ChoiceSet(&'static [&'static str]),
    /// A list of texts, at least one.
    TextList,
    /// Two numbers in [0, 1).
    Betas,
}

/// One row of [`KEYS`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// Dotted path: `train.learning_rate`, `seed`.
    pub path: &'static str,
    /// Type and range.
    pub kind: KeyKind,
    /// Default as TOML would spell it; `None`: the key may be absent.
    pub default: Option<&'static str>,
    /// One line for a reader.
    pub help: &'static str,
}

const fn key(path: &'static str, kind: KeyKind, default: Option<&'static str>, help: &'static str) -> Key {
    Key { path, kind, default, help }
}

const fn integer(min: i64, max: i64) -> KeyKind {
    KeyKind::Integer { min, max }
}

const fn number(min: f64, max: f64, open: bool) -> KeyKind {
    KeyKind::Number { min, max, open }
}

/// The layers that an adapter can sit on, in the words of the study.
const LAYERS: &[&str] = &["query", "key", "value", "projection", "mlp", "head"];

/// All keys, in the order in which they are shown. Numbers default to the study's.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("model", KeyKind::Text, None, "a .gguf file or a Hugging Face checkpoint folder"),
    key("data", KeyKind::Text, None, "a preset, or a path to a .jsonl or .json file"),
    key("template", KeyKind::Choice(&["alpaca", "question-answer"]), None, "how a row becomes a prompt and a response"),
    key("eval", KeyKind::TextList, None, "tasks to score"),
    key("limit", integer(1, i64::MAX), None, "score only the first n documents of each task"),
    key("objective", KeyKind::Text, None, "the task that ranks the leaderboard"),
    key("seed", integer(0, i64::MAX), Some("1"), "seed of adapter initialisation, row order and dropout"),
    key("train.dtype", KeyKind::Choice(&["auto", "bf16", "fp32"]), Some("\"auto\""), "compute dtype of the frozen model; auto: bf16 where the device has it"),
    key("train.iterations", integer(1, 1 << 40), Some("50_000"), "micro-batches to train on"),
    key("train.batch_size", integer(1, 1 << 20), Some("128"), "rows of one optimizer step"),
    key("train.micro_batch_size", integer(1, 1 << 20), Some("1"), "rows of one iteration"),
    key("train.learning_rate", number(0.0, 1e3, true), Some("3e-4"), "peak learning rate"),
    key("train.optimizer", KeyKind::Choice(&["adamw"]), Some("\"adamw\""), "optimizer"),
    key("train.betas", KeyKind::Betas, Some("[0.9, 0.999]"), "AdamW's decay rates of the two moments"),
    key("train.eps", number(0.0, 1.0, true), Some("1e-8"), "AdamW's epsilon"),
    key("train.weight_decay", number(0.0, 1e3, false), Some("0.01"), "decoupled weight decay"),
    key("train.schedule", KeyKind::Choice(&["constant", "linear", "cosine"]), Some("\"constant\""), "learning rate after the warm-up"),
    key("train.warmup_steps", integer(0, 1 << 40), Some("100"), "optimizer steps of linear warm-up from 0"),
    key("train.loss", KeyKind::Choice(&["token", "micro_batch"]), Some("\"token\""), "mean over the window's tokens, or mean of micro-batch means"),
    key("train.order", KeyKind::Choice(&["shuffle", "sequential"]), Some("\"shuffle\""), "order of the rows within an epoch"),
    key("train.max_seq_length", integer(8, 1 << 20), Some("2048"), "rows with more tokens are cut at their end"),
    key("train.labels", KeyKind::Choice(&["all", "response"]), Some("\"all\""), "which tokens the loss scores"),
    key("lora.rank", integer(1, 1 << 16), Some("8"), "rank of every adapter"),
    key("lora.alpha", number(0.0, 1e6, true), Some("16"), "scale: the adapter's output is multiplied by alpha / rank"),
    key("lora.layers", KeyKind::ChoiceSet(LAYERS), Some("[\"query\", \"value\"]"), "layers that carry an adapter"),
    key("lora.dropout", KeyKind::Number { min: 0.0, max: 0.99, open: false }, Some("0.05"), "dropout on the adapter's input"),
];

/// The key with this dotted path.
pub fn find_key(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The known path nearest to a mistyped one, if one is near.
pub fn nearest_key(path: &str) -> Option<&'static str> {
    let last = |p: &str| p.rsplit('.').next().unwrap_or_default().to_owned();
    let wanted = last(path);
    let distance = |key: &Key| {
        strsim::damerau_levenshtein(path, key.path)
            .min(1 + strsim::damerau_levenshtein(&wanted, &last(key.path)))
    };
    KEYS.iter()
        .map(|key| (distance(key), key.path))
        .min()
        .filter(|(d, _)| *d <= 1 + path.len() / 4)
        .map(|(_, path)| path)
}

impl KeyKind {
    /// What the kind accepts, in words.
    pub fn expected(&self) -> String {
        let words = |list: &[&str]| list.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(", ");
        match *self {
            Self::Integer { min, max: i64::MAX } => format!("a whole number of at least {min}"),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Number { min, max, open: true } => format!("a number above {min} and at most {max}"),
            Self::Number { min, max, open: false } => format!("a number from {min} to {max}"),
            Self::Text => "a text that is not empty".to_owned(),
            Self::Choice(list) => format!("one of {}", words(list)),
            Self::ChoiceSet(list) => format!("\"all\", or a list of {}", words(list)),
            Self::TextList => "a list of texts".to_owned(),
            Self::Betas => "two numbers from 0 to below 1".to_owned(),
        }
    }

    /// Checks a value and brings it into the kind's one form: whole numbers where numbers are wanted become
    /// floats, sets are sorted by the table's order, `"all"` is spelled out. Errors: [`ValueError`].
    pub fn check(&self, value: &Value) -> Result<Value, ValueError> {
        self.accept(value).ok_or_else(|| ValueError { wanted: self.expected(), found: value.describe() })
    }

    fn accept(&self, value: &Value) -> Option<Value> {
        match (*self, value) {
            (Self::Integer { min, max }, Value::Integer(n)) => (min..=max).contains(n).then(|| value.clone()),
            (Self::Number { min, max, open }, value) => {
                let x = value.as_f64()?;
                let above = if open { x > min } else { x >= min };
                (x.is_finite() && above && x <= max).then_some(Value::Float(x))
            }
            (Self::Text, Value::Text(t)) => (!t.trim().is_empty()).then(|| value.clone()),
            (Self::Choice(list), Value::Text(t)) => list.contains(&t.as_str()).then(|| value.clone()),
            (Self::ChoiceSet(list), Value::Text(t)) if t == "all" => {
                Some(Value::List(list.iter().map(|w| Value::from(*w)).collect()))
            }
            (Self::ChoiceSet(list), Value::List(items)) => choice_set(list, items),
            (Self::TextList, Value::List(items)) => {
                let texts = items.iter().all(|item| matches!(item, Value::Text(t) if !t.trim().is_empty()));
                (texts && !items.is_empty()).then(|| value.clone())
            }
            (Self::Betas, Value::List(items)) => {
                let numbers: Vec<f64> = items.iter().map(Value::as_f64).collect::<Option<_>>()?;
                let good = numbers.len() == 2 && numbers.iter().all(|x| (0.0..1.0).contains(x));
                good.then(|| Value::List(numbers.into_iter().map(Value::Float).collect()))
            }
            _ => None,
        }
    }

    /// Whether a list is one value of this kind, so that an axis over it needs a list of lists.
    pub fn is_list(&self) -> bool {
        matches!(self, Self::ChoiceSet(_) | Self::TextList | Self::Betas)
    }
}

fn choice_set(list: &'static [&'static str], items: &[Value]) -> Option<Value> {
    let known = |item: &Value| matches!(item, Value::Text(t) if list.contains(&t.as_str()));
    if items.is_empty() || !items.iter().all(known) {
        return None;
    }
    let chosen = list.iter().filter(|word| items.contains(&Value::from(**word)));
    Some(Value::List(chosen.map(|word| Value::from(*word)).collect()))
}

/// Where a resolved value came from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// The default of [`KEYS`].
    Default,
    /// The sweep file's line, counted from 1.
    File {
        /// Line number.
        line: usize,
    },
    /// An axis of the sweep file.
    Axis,
    /// A `[derive]` expression.
    Derived {
        /// The expression as written.
        expression: String,
    },
    /// `--set` on the command line.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { line } => write!(f, "line {line}"),
            Self::Axis => f.write_str("axis"),
            Self::Derived { expression } => write!(f, "derived: {expression}"),
            Self::CommandLine => f.write_str("--set"),
        }
    }
}

/// A checked value and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The value, in the form that [`KeyKind::check`] returns.
    pub value: Value,
    /// Its source.
    pub origin: Origin,
}

/// The values of one job, by key path.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings(BTreeMap<&'static str, Setting>);

impl Settings {
    /// No key set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key to a value that [`KeyKind::check`] has returned.
    pub fn set(&mut self, key: &'static Key, value: Value, origin: Origin) {
        self.0.insert(key.path, Setting { value, origin });
    }

    /// The setting of a key, if it was set.
    pub fn get(&self, path: &str) -> Option<&Setting> {
        self.0.get(path)
    }

    /// The keys that were set, in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Setting)> {
        self.0.iter().map(|(path, setting)| (*path, setting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_sorted_and_all_is_spelled_out() {
        let kind = find_key("lora.layers").unwrap().kind;
        let list = |words: &[&str]| Value::List(words.iter().map(|w| Value::from(*w)).collect());
        assert_eq!(kind.check(&list(&["value", "query"])), Ok(list(&["query", "value"])));
        assert_eq!(kind.check(&"all".into()), Ok(list(LAYERS)));
        assert!(kind.check(&list(&[])).is_err());
        assert!(kind.check(&list(&["querry"])).is_err());
    }

    #[test]
    fn numbers_outside_the_range_and_not_a_number_are_refused() {
        let kind = find_key("train.learning_rate").unwrap().kind;
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(kind.check(&Value::Float(bad)).is_err(), "{bad}");
        }
        assert_eq!(kind.check(&Value::Integer(1)), Ok(Value::Float(1.0)));
    }

    #[test]
    fn a_mistyped_key_finds_its_neighbour() {
        assert_eq!(nearest_key("train.learning_rat"), Some("train.learning_rate"));
        assert_eq!(nearest_key("lora.rnk"), Some("lora.rank"));
        assert_eq!(nearest_key("learning_rate"), Some("train.learning_rate"));
        assert_eq!(nearest_key("zebra"), None);
    }
}
