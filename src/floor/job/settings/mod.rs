//! Configuration keys and their values in a job.

mod kind;
mod table;

use std::fmt;
use std::sync::{Arc, LazyLock, OnceLock};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

pub use kind::{KeyKind, ValueType};
use table::ALIASES;
pub use table::{Decides, KEYS, Key};

use super::choices::Profile;
use super::value::Value;

static NUMBERS: LazyLock<FxHashMap<&'static str, usize>> =
    LazyLock::new(|| KEYS.iter().enumerate().map(|(number, key)| (key.path, number)).collect());

/// The key with this dotted path or alias.
pub fn find_key(path: &str) -> Option<&'static Key> {
    NUMBERS.get(canonical_path(path)).map(|number| &KEYS[*number])
}

/// The path that an alias stands for; any other string unchanged.
pub fn canonical_path(spelling: &str) -> &str {
    ALIASES.iter().find(|alias| alias.spelling == spelling).map_or(spelling, |alias| alias.path)
}

/// The current path of a name from an earlier release.
pub fn replaced_by(spelling: &str) -> Option<&'static str> {
    ALIASES.iter().find(|alias| alias.is_old && alias.spelling == spelling).map(|alias| alias.path)
}

/// What transformers, PEFT and tables call keys.
const ELSEWHERE: &[(&str, &str)] = &[
    ("lr", "train.learning_rate"),
    ("r", "lora.rank"),
    ("lora_r", "lora.rank"),
    ("lora_alpha", "lora.alpha"),
    ("lora_dropout", "lora.dropout"),
    ("use_rslora", "lora.scaling"),
    ("use_dora", "lora.variant"),
    ("per_device_train_batch_size", "train.micro_batch_size"),
    ("gradient_accumulation_steps", "train.batch_size"),
    ("num_train_epochs", "train.epochs"),
    ("max_steps", "train.iterations"),
    ("lr_scheduler_type", "train.schedule"),
    ("max_grad_norm", "train.clip_norm"),
    ("max_length", "train.max_seq_length"),
    ("optim", "train.optimizer"),
    ("load_in_4bit", "train.quantize"),
];

/// The known path nearest to a typo, if one is near.
pub fn nearest_key(path: &str) -> Option<&'static str> {
    let last = |p: &str| p.rsplit('.').next().unwrap_or_default().to_owned();
    let wanted = last(path);
    if let Some((_, path)) = ELSEWHERE.iter().find(|(name, _)| *name == wanted) {
        return Some(path);
    }
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

impl Key {
    /// The key's default under a profile, checked; `None` if it may be absent.
    pub fn default_value(&self, profile: Profile) -> Option<Value> {
        let text = match profile {
            Profile::Peft => self.default,
            Profile::LitGpt2023 => self.litgpt.or(self.default),
        };
        let table: toml::Table = format!("v = {}", text?).parse().ok()?;
        let value: Value = table.get("v")?.clone().try_into().ok()?;
        self.kind.check(&value).ok()
    }
}

/// The source of a resolved value.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// The default of [`KEYS`].
    Default,
    /// A profile's default, where it differs.
    Profile(Profile),
    /// The sweep file's line, counted from 1.
    File {
        /// Line number.
        line: usize,
    },
    /// An axis of the sweep file.
    Axis,
    /// A paired axis of the sweep file.
    Zip {
        /// The pair's name.
        name: Arc<str>,
    },
    /// A `[[when]]` rule.
    When {
        /// Line of the rule, counted from 1.
        line: usize,
    },
    /// A `[derive]` expression.
    Derived {
        /// The expression as written.
        expression: Arc<str>,
    },
    /// The resolution of a value such as `auto`.
    Resolved {
        /// Where it came from.
        from: &'static str,
    },
    /// `--set` on the command line.
    CommandLine,
}

/// An [`Origin`] in database form: its displayed text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoredOrigin(String);

impl StoredOrigin {
    /// Whether a user set the value.
    pub fn was_set(&self) -> bool {
        self.0 != DEFAULT && !self.0.starts_with(OF_PROFILE)
    }
}

impl From<&Origin> for StoredOrigin {
    fn from(origin: &Origin) -> Self {
        Self(origin.to_string())
    }
}

impl fmt::Display for StoredOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How default values are shown.
const DEFAULT: &str = "default";
const OF_PROFILE: &str = "profile ";

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str(DEFAULT),
            Self::Profile(profile) => write!(f, "{OF_PROFILE}{}", profile.as_str()),
            Self::File { line } => write!(f, "line {line}"),
            Self::Axis => f.write_str("axis"),
            Self::Zip { name } => write!(f, "zip {name}"),
            Self::When { line } => write!(f, "when, line {line}"),
            Self::Derived { expression } => write!(f, "derived: {expression}"),
            Self::Resolved { from } => write!(f, "from {from}"),
            Self::CommandLine => f.write_str("--set"),
        }
    }
}

/// A checked value and its origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The value, normalized by [`KeyKind::check`].
    pub value: Value,
    /// Its source.
    pub origin: Origin,
    /// The value as TOML, once requested.
    spelled: OnceLock<Box<str>>,
}

impl Setting {
    /// A value and its source.
    pub fn new(value: Value, origin: Origin) -> Self {
        Self { value, origin, spelled: OnceLock::new() }
    }

    /// The value as TOML. Settings are shared between the cells of a grid, so each is formatted once.
    pub fn spelled(&self) -> &str {
        self.spelled.get_or_init(|| self.value.to_toml().into())
    }
}

/// The values of one job, by key. Copies share values, which keeps a grid of 100,000 jobs cheap.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings(Vec<Option<Arc<Setting>>>);

impl Default for Settings {
    fn default() -> Self {
        Self(vec![None; KEYS.len()])
    }
}

impl Settings {
    /// No key set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key to a value returned by [`KeyKind::check`].
    pub fn set(&mut self, key: &Key, value: Value, origin: Origin) {
        self.share(key, &Arc::new(Setting::new(value, origin)));
    }

    /// Sets a key to a shared setting.
    pub fn share(&mut self, key: &Key, setting: &Arc<Setting>) {
        if let Some(number) = NUMBERS.get(key.path) {
            self.0[*number] = Some(Arc::clone(setting));
        }
    }

    /// Removes a key.
    pub fn unset(&mut self, path: &str) {
        if let Some(number) = NUMBERS.get(path) {
            self.0[*number] = None;
        }
    }

    /// The setting of a key, if it is set.
    pub fn get(&self, path: &str) -> Option<&Setting> {
        self.0[*NUMBERS.get(path)?].as_deref()
    }

    /// The value of a key, if it is set.
    pub fn value(&self, path: &str) -> Option<&Value> {
        self.get(path).map(|setting| &setting.value)
    }

    /// The keys that are set, in the table's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Key, &Setting)> {
        KEYS.iter().zip(&self.0).filter_map(|(key, setting)| Some((key, setting.as_deref()?)))
    }

    /// Sets every missing key to its default under the profile.
    pub fn fill_defaults(&mut self, profile: Profile) {
        static DEFAULTS: LazyLock<[Vec<Option<Arc<Setting>>>; 2]> = LazyLock::new(|| {
            [Profile::Peft, Profile::LitGpt2023].map(|profile| {
                let setting = |key: &Key| {
                    let differs = profile == Profile::LitGpt2023 && key.litgpt.is_some();
                    let origin = if differs { Origin::Profile(profile) } else { Origin::Default };
                    key.default_value(profile).map(|value| Arc::new(Setting::new(value, origin)))
                };
                KEYS.iter().map(setting).collect()
            })
        });
        for (setting, default) in self.0.iter_mut().zip(&DEFAULTS[profile as usize]) {
            if setting.is_none() {
                setting.clone_from(default);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::LayerKind;

    #[test]
    fn a_set_is_sorted_and_all_is_spelled_out() {
        let kind = find_key("lora.layers").unwrap().kind;
        let list = |words: &[&str]| Value::List(words.iter().map(|w| Value::from(*w)).collect());
        assert_eq!(kind.check(&list(&["value", "query"])), Ok(list(&["query", "value"])));
        assert_eq!(kind.check(&"all".into()), Ok(list(LayerKind::WORDS)));
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
    fn integers_are_exact_to_64_bits() {
        let kind = find_key("seed").unwrap().kind;
        assert_eq!(kind.check(&Value::Integer(i64::MAX)), Ok(Value::Integer(i64::MAX)));
    }

    #[test]
    fn a_mistyped_key_finds_its_neighbour() {
        assert_eq!(nearest_key("train.learning_rat"), Some("train.learning_rate"));
        assert_eq!(nearest_key("lora.rnk"), Some("lora.rank"));
        assert_eq!(nearest_key("learning_rate"), Some("train.learning_rate"));
        assert_eq!(nearest_key("zebra"), None);
    }

    #[test]
    fn every_default_is_a_value_of_its_key_under_both_profiles() {
        for key in KEYS {
            for profile in [Profile::Peft, Profile::LitGpt2023] {
                assert_eq!(key.default_value(profile).is_some(), key.default.is_some(), "{}", key.path);
            }
        }
    }

    #[test]
    fn a_profile_sets_only_what_the_file_leaves_open() {
        let mut settings = Settings::new();
        settings.set(find_key("train.loss").unwrap(), "token".into(), Origin::File { line: 3 });
        settings.fill_defaults(Profile::LitGpt2023);
        assert_eq!(settings.value("train.loss"), Some(&"token".into()));
        assert_eq!(settings.value("train.order"), Some(&"with_replacement".into()));
        assert_eq!(settings.get("train.order").unwrap().origin.to_string(), "profile litgpt-2023");
        assert_eq!(settings.get("lora.rank").unwrap().origin, Origin::Default);
    }

    #[test]
    fn another_spelling_is_the_same_key_and_hashes_as_it_always_did() {
        for (spelling, path) in [
            ("train.dequantise", "train.dequantize"),
            ("lora.plus_ratio", "lora.loraplus_lr_ratio"),
            ("lora.target_modules", "lora.layers"),
        ] {
            assert_eq!(find_key(spelling).unwrap().path, path);
        }
        assert_eq!(find_key("lora.plus_ratio").unwrap().hashed_path(), "lora.plus_ratio");
        assert_eq!(find_key("lora.target_modules").unwrap().hashed_path(), "lora.layers");
        assert_eq!(
            (replaced_by("lora.plus_ratio"), replaced_by("lora.layers")),
            (Some("lora.loraplus_lr_ratio"), None)
        );
    }

    #[test]
    fn layers_are_named_by_words_or_by_pefts_modules() {
        let kind = find_key("lora.target_modules").unwrap().kind;
        let list = |words: &[&str]| Value::List(words.iter().map(|word| Value::from(*word)).collect());
        assert_eq!(kind.check(&list(&["v_proj", "q_proj"])).unwrap(), list(&["query", "value"]));
        assert_eq!(kind.check(&list(&["down_proj", "gate_proj", "up_proj"])).unwrap(), list(&["mlp"]));
        assert_eq!(
            kind.check(&"all-linear".into()).unwrap(),
            list(&["query", "key", "value", "projection", "mlp"])
        );
        // The MLP is adapted as a whole.
        for wrong in [list(&["gate_proj"]), list(&["q_prj"]), list(&[])] {
            assert!(kind.check(&wrong).is_err(), "{wrong:?}");
        }
    }
}
