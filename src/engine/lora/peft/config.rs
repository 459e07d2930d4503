//! `adapter_config.json`: which modules have an adapter, with which rank and scale.

use std::collections::BTreeMap;
use std::path::Path;

use fancy_regex::Regex;
use floor::pretrained::{LayerName, ModelConfig};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::{CONFIG, HEAD, OLD_HEAD, modules, unfit};
use crate::failure::EngineError;
#[cfg(test)]
use crate::lora::PairForm;

/// The fields that are read.
#[derive(Deserialize)]
pub(super) struct ConfigFile {
    peft_type: String,
    r: i64,
    lora_alpha: f64,
    #[serde(default)]
    target_modules: Option<Names>,
    #[serde(default)]
    exclude_modules: Option<Names>,
    #[serde(default)]
    layers_to_transform: Option<Layers>,
    #[serde(default)]
    layers_pattern: Option<Names>,
    /// In file order: PEFT uses the first match.
    #[serde(default)]
    rank_pattern: Option<Map<String, Json>>,
    #[serde(default)]
    alpha_pattern: Option<Map<String, Json>>,
    #[serde(default)]
    init_lora_weights: Json,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    bias: Option<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Json>,
}

/// A regular expression over full module names, or a list of name suffixes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Layers {
    One(usize),
    Several(Vec<usize>),
}

/// PEFT options that do not change a saved adapter's output. Any other option that is set is rejected by name.
const IDLE: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
];

/// Initializations that leave the base unchanged. The others subtract something from it when PEFT loads the adapter.
const PLAIN_INITS: &[&str] = &["gaussian", "eva", "orthogonal"];

/// The adapter's shape according to its folder.
pub(crate) struct Form {
    /// The modules with an adapter, each with its layers, rank and scaling.
    pub(super) modules: Vec<AdaptedModule>,
    /// Whether they have DoRA magnitudes.
    pub(super) dora: bool,
    /// Whether the head was fully trained.
    pub(super) saved_head: bool,
    /// The head's module.
    pub(super) head: &'static str,
}

/// A module with an adapter.
pub(super) struct AdaptedModule {
    pub(super) module: String,
    pub(super) layers: Vec<LayerName>,
    pub(super) rank: i64,
    pub(super) scaling: f64,
}

impl Form {
    /// The layers' adapter shapes as in PEFT: layers that share a matrix share its rank.
    #[cfg(test)]
    pub(crate) fn pairs(&self) -> Vec<PairForm> {
        let pair = |module: &AdaptedModule, name| PairForm {
            name,
            rank: module.rank,
            scaling: module.scaling,
            dora: self.dora,
        };
        self.modules.iter().flat_map(|m| m.layers.iter().map(move |name| pair(m, *name))).collect()
    }
}

/// Reads the adapter's shape from its folder, for this model. Errors: unreadable, another kind of adapter, an
/// unsupported option, targets that the model lacks.
pub(crate) fn read_form(folder: &Path, model: &ModelConfig) -> Result<Form, EngineError> {
    let fail = |reason: String| unfit(folder, reason);
    let text = std::fs::read_to_string(folder.join(CONFIG)).map_err(|e| fail(format!("{CONFIG}: {e}")))?;
    let config: ConfigFile = serde_json::from_str(&text).map_err(|e| fail(format!("{CONFIG}: {e}")))?;
    config.form(model).map_err(fail)
}

impl ConfigFile {
    fn form(&self, model: &ModelConfig) -> Result<Form, String> {
        if self.peft_type != "LORA" {
            return Err(format!("its kind is {}, not LORA", self.peft_type));
        }
        if self.bias.as_deref().is_some_and(|bias| bias != "none") {
            return Err("it trains biases".to_owned());
        }
        let is_set = |value: &Json| match value {
            Json::Null | Json::Bool(false) => false,
            Json::Array(items) => !items.is_empty(),
            Json::Object(entries) => !entries.is_empty(),
            _ => true,
        };
        let idle = |name: &str| IDLE.contains(&name);
        if let Some((option, _)) = self.rest.iter().find(|(name, value)| !idle(name) && is_set(value)) {
            return Err(format!("its option '{option}' is not supported"));
        }
        match &self.init_lora_weights {
            Json::Null | Json::Bool(_) => {}
            Json::String(name) if PLAIN_INITS.contains(&name.as_str()) => {}
            other => {
                return Err(format!(
                    "its initialization init_lora_weights = {other} changes the base model's weights; convert it with PEFT's path_initial_model_for_weight_conversion"
                ));
            }
        }
        let saved = self.modules_to_save.as_deref().unwrap_or_default();
        let head = if self.names_old_head() { OLD_HEAD } else { HEAD };
        if let Some(other) = saved.iter().find(|name| *name != head) {
            return Err(format!("it has '{other}' trained whole; only the head ('{head}') can be"));
        }
        let mut adapted = Vec::new();
        for (module, layers) in modules(model, head) {
            if saved.contains(&module) || !self.targets(&module, head)? {
                continue;
            }
            let rank = pattern(self.rank_pattern.as_ref(), &module)?;
            let rank = rank.map_or(Some(self.r), Json::as_i64).unwrap_or(0);
            let alpha = pattern(self.alpha_pattern.as_ref(), &module)?;
            let alpha = alpha.map_or(Some(self.lora_alpha), Json::as_f64).unwrap_or(f64::NAN);
            if !(1..=1 << 16).contains(&rank) || !alpha.is_finite() {
                return Err(format!("rank {rank} and alpha {alpha} of '{module}' are no adapter's"));
            }
            let divisor = if self.use_rslora { (rank as f64).sqrt() } else { rank as f64 };
            adapted.push(AdaptedModule { module, layers, rank, scaling: alpha / divisor });
        }
        if adapted.is_empty() && saved.is_empty() {
            return Err("none of its targets is a layer of this model".to_owned());
        }
        Ok(Form { modules: adapted, dora: self.use_dora, saved_head: !saved.is_empty(), head })
    }

    fn names_old_head(&self) -> bool {
        let saved = self.modules_to_save.iter().flatten();
        let targets: &[String] = match &self.target_modules {
            Some(Names::One(name)) => std::slice::from_ref(name),
            Some(Names::Several(names)) => names,
            None => &[],
        };
        saved.chain(targets).any(|name| name.contains(OLD_HEAD))
    }

    /// PEFT's matching rule for one module.
    fn targets(&self, module: &str, head: &str) -> Result<bool, String> {
        if let Some(excluded) = &self.exclude_modules
            && excluded.match_module(module)?
        {
            return Ok(false);
        }
        let chosen = match &self.target_modules {
            None => return Err("it names no target modules".to_owned()),
            Some(Names::One(all)) if all.eq_ignore_ascii_case("all-linear") => module != head,
            Some(names) => names.match_module(module)?,
        };
        match &self.layers_to_transform {
            // No number means every layer.
            Some(Layers::Several(layers)) if layers.is_empty() => Ok(chosen),
            Some(layers) if chosen => self.is_transformed(module, layers),
            _ => Ok(chosen),
        }
    }

    /// Whether the module's layer number is in `layers_to_transform`.
    fn is_transformed(&self, module: &str, layers: &Layers) -> Result<bool, String> {
        let patterns = match &self.layers_pattern {
            None => vec![r"[^.]*".to_owned()],
            Some(Names::One(pattern)) => vec![pattern.clone()],
            Some(Names::Several(patterns)) if patterns.is_empty() => vec![r"[^.]*".to_owned()],
            Some(Names::Several(patterns)) => patterns.clone(),
        };
        for pattern in patterns {
            let regex = compile(&format!(r"^.*\.(?:{pattern})\.(\d+)\."))?;
            let Some(captures) = regex.captures(module).map_err(|e| e.to_string())? else { continue };
            let number = captures.get(1).and_then(|digits| digits.as_str().parse::<usize>().ok());
            return Ok(number.is_some_and(|n| match layers {
                Layers::One(layer) => n == *layer,
                Layers::Several(layers) => layers.contains(&n),
            }));
        }
        Ok(false)
    }
}

impl Names {
    fn match_module(&self, module: &str) -> Result<bool, String> {
        match self {
            Self::One(pattern) => {
                let regex = compile(&format!("^(?:{pattern})$"))?;
                regex.is_match(module).map_err(|e| e.to_string())
            }
            Self::Several(names) => Ok(names.iter().any(|name| ends_with(module, name))),
        }
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|e| format!("the pattern '{pattern}': {e}"))
}

fn ends_with(module: &str, name: &str) -> bool {
    module == name || module.strip_suffix(name).is_some_and(|front| front.ends_with('.'))
}

/// The value of the first key that matches the end of a module's name, PEFT's pattern lookup.
fn pattern<'a>(patterns: Option<&'a Map<String, Json>>, module: &str) -> Result<Option<&'a Json>, String> {
    for (key, value) in patterns.into_iter().flatten() {
        let regex = compile(&format!(r"^(?:.*\.)?(?:{key})$"))?;
        if regex.is_match(module).map_err(|e| e.to_string())? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use floor::pretrained::LlamaSizes;

    use super::*;

    fn model() -> ModelConfig {
        ModelConfig::llama(LlamaSizes {
            vocab_size: 32,
            hidden_size: 8,
            intermediate_size: 16,
            layers: 3,
            heads: 2,
            kv_heads: 2,
            head_dim: 4,
        })
    }

    fn form(rest: &str) -> Result<Vec<(String, i64, f64)>, String> {
        let text = format!(r#"{{"peft_type":"LORA","r":4,"lora_alpha":8{rest}}}"#);
        let config: ConfigFile = serde_json::from_str(&text).unwrap();
        let form = config.form(&model())?;
        Ok(form.modules.into_iter().map(|m| (m.module, m.rank, m.scaling)).collect())
    }

    #[test]
    fn a_regular_expression_covers_whole_names_and_layers_can_be_chosen() {
        let regex = form(r#","target_modules":".*\\.[02]\\..*(q|v)_proj""#).unwrap();
        let list = form(r#","target_modules":["q_proj","v_proj"],"layers_to_transform":[0,2]"#).unwrap();
        assert_eq!(regex.len(), 4);
        assert_eq!(regex, list);
        assert_eq!(
            form(r#","target_modules":"all-linear","exclude_modules":["down_proj"]"#).unwrap().len(),
            18
        );
    }

    #[test]
    fn patterns_give_modules_their_own_rank_and_scale() {
        let modules = form(
            r#","target_modules":["q_proj","v_proj"],"rank_pattern":{"layers.1.self_attn.q_proj":16},"alpha_pattern":{"v_proj":2}"#,
        )
        .unwrap();
        let find = |name: &str| {
            let found = modules.iter().find(|(module, ..)| module.ends_with(name)).unwrap();
            (found.1, found.2)
        };
        assert_eq!(find("layers.0.self_attn.q_proj"), (4, 2.0));
        assert_eq!(find("layers.1.self_attn.q_proj"), (16, 0.5));
        assert_eq!(find("layers.2.self_attn.v_proj"), (4, 0.5));
    }

    #[test]
    fn the_first_pattern_that_matches_counts_in_the_files_order() {
        let modules = form(
            r#","target_modules":["q_proj"],"alpha_pattern":{"q_proj":32,"layers.0.self_attn.q_proj":8}"#,
        )
        .unwrap();
        assert!(modules.iter().all(|(_, _, scaling)| *scaling == 8.0), "{modules:?}");
    }

    #[test]
    fn what_peft_takes_is_taken() {
        let count = |rest: &str| form(rest).unwrap().len();
        assert_eq!(count(r#","target_modules":["q_proj","query_key_value"]"#), 3);
        assert_eq!(count(r#","target_modules":["q_proj","k_proj"],"exclude_modules":["k_proj"]"#), 3);
        assert_eq!(count(r#","target_modules":["q_proj"],"layers_to_transform":[]"#), 3);
        for idle in [r#""init_lora_weights":"gaussian""#, r#""use_tangles":false"#, r#""loftq_config":{}"#] {
            assert_eq!(count(&format!(r#","target_modules":["q_proj"],{idle}"#)), 3, "{idle}");
        }
    }

    #[test]
    fn what_is_not_carried_out_is_refused() {
        for (rest, word) in [
            (r#","target_modules":["q_proj"],"bias":"all""#, "biases"),
            (r#","target_modules":["q_proj"],"trainable_token_indices":[1]"#, "trainable_token_indices"),
            (r#","target_modules":["q_proj"],"use_tangles":true"#, "use_tangles"),
            (r#","target_modules":["q_proj"],"init_lora_weights":"pissa_niter_4""#, "pissa_niter_4"),
            (r#","target_modules":["query_key_value"]"#, "none of its targets"),
            (r#","target_modules":["q_proj"],"modules_to_save":["embed_tokens"]"#, "embed_tokens"),
            (r#","target_modules":"(""#, "pattern"),
            (r#","target_modules":["q_proj"],"rank_pattern":{"q_proj":0}"#, "rank 0"),
        ] {
            let error = form(rest).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
