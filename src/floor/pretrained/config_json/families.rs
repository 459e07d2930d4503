//! Family-specific settings, as read by each family's class in transformers.

use serde_json::Value as Json;

use super::super::architecture::*;
use super::super::error::CheckpointError;
use super::Reading;

impl Reading<'_> {
    /// The settings of the configuration's family.
    pub(super) fn family_rules(&self, config: &mut ModelConfig) -> Result<(), CheckpointError> {
        let file = self.file;
        match config.family {
            Family::Llama => {
                let bias = file.attention_bias == Some(true);
                config.biases = Biases {
                    query_key_value: bias,
                    output: bias,
                    mlp: file.mlp_bias == Some(true),
                    head: false,
                };
            }
            Family::Mistral => self.windows(config, |_| true)?,
            Family::Phi => self.phi(config)?,
            Family::Phi3 => {
                config.qkv = QkvRows::Stacked;
                config.gate_up_stacked = true;
                self.windows(config, |_| true)?;
            }
            Family::Falcon => self.falcon(config)?,
            Family::GptNeox => self.gpt_neox(config),
            Family::Qwen2 | Family::Qwen3 => self.qwen(config)?,
            Family::Gemma | Family::Gemma2 | Family::Gemma3Text => self.gemma(config)?,
            Family::Olmo2 => {
                config.norm = Norm::RmsRoundedLast;
                config.block = BlockForm::PostNorm;
                config.query_key_norm = QueryKeyNorm::Whole;
                let bias = file.attention_bias == Some(true);
                config.biases = Biases { query_key_value: bias, output: bias, ..Biases::default() };
            }
            Family::Smollm3 => self.smollm3(config)?,
        }
        Ok(())
    }

    /// Gives `sliding` layers the file's window.
    fn windows(
        &self,
        config: &mut ModelConfig,
        sliding: impl Fn(usize) -> bool,
    ) -> Result<(), CheckpointError> {
        let types = self.file.layer_types.as_deref();
        let default = config.family.defaults().window;
        let window = self.file.sliding_window.unwrap_or(default);
        for (n, form) in config.layer_forms.iter_mut().enumerate() {
            let slides = match types.map(|types| types.get(n).map(String::as_str)) {
                None => sliding(n),
                Some(Some("sliding_attention")) => true,
                Some(Some("full_attention")) => false,
                Some(Some(other)) => return Err(self.unsupported("layer type", other)),
                Some(None) => {
                    let reason = format!("layer_types ends before layer {n}");
                    return Err(CheckpointError::Malformed { path: self.path.to_owned(), reason });
                }
            };
            form.window = window.filter(|_| slides);
        }
        Ok(())
    }

    fn phi(&self, config: &mut ModelConfig) -> Result<(), CheckpointError> {
        self.refuse(self.file.qk_layernorm == Some(true), "qk_layernorm")?;
        config.norm = Norm::Layer;
        config.block = BlockForm::Parallel;
        config.gated = false;
        config.biases = Biases { query_key_value: true, output: true, mlp: true, head: true };
        Ok(())
    }

    fn falcon(&self, config: &mut ModelConfig) -> Result<(), CheckpointError> {
        let file = self.file;
        self.refuse(file.alibi == Some(true), "alibi")?;
        let new = file.new_decoder_architecture == Some(true);
        self.refuse(!new && file.parallel_attn == Some(false), "parallel_attn = false")?;
        config.norm = Norm::Layer;
        config.gated = false;
        config.qkv = QkvRows::ByKeyHead;
        config.kv_heads = match (new, file.multi_query.unwrap_or(true)) {
            (true, _) => file.num_kv_heads.unwrap_or(config.heads),
            (false, true) => 1,
            (false, false) => config.heads,
        };
        let two = new && file.num_ln_in_parallel_attn.unwrap_or(2) == 2;
        config.block = if two { BlockForm::ParallelTwoNorms } else { BlockForm::Parallel };
        let bias = file.bias == Some(true);
        config.biases = Biases { query_key_value: bias, output: bias, mlp: bias, head: false };
        Ok(())
    }

    fn gpt_neox(&self, config: &mut ModelConfig) {
        config.norm = Norm::Layer;
        config.gated = false;
        config.qkv = QkvRows::ByKeyHead;
        config.kv_heads = config.heads;
        let parallel = self.file.use_parallel_residual.unwrap_or(true);
        config.block = if parallel { BlockForm::ParallelTwoNorms } else { BlockForm::PreNorm };
        let bias = self.file.attention_bias.unwrap_or(true);
        config.biases = Biases { query_key_value: bias, output: bias, mlp: true, head: false };
    }

    fn qwen(&self, config: &mut ModelConfig) -> Result<(), CheckpointError> {
        let file = self.file;
        if config.family == Family::Qwen2 {
            config.biases.query_key_value = true;
        } else {
            config.query_key_norm = QueryKeyNorm::EachHead;
            let bias = file.attention_bias == Some(true);
            config.biases = Biases { query_key_value: bias, output: bias, ..Biases::default() };
        }
        if file.use_sliding_window == Some(true) {
            let first = file.max_window_layers.unwrap_or(28) as usize;
            self.windows(config, |n| n >= first)?;
        }
        Ok(())
    }

    fn gemma(&self, config: &mut ModelConfig) -> Result<(), CheckpointError> {
        let file = self.file;
        let bidirectional = file.use_bidirectional_attention.as_ref();
        let asks = |json: &Json| !json.is_null() && json != &Json::Bool(false);
        self.refuse(bidirectional.is_some_and(asks), "use_bidirectional_attention")?;
        config.norm = Norm::RmsPlusOne;
        config.scaled_embedding = true;
        let bias = file.attention_bias == Some(true);
        config.biases = Biases { query_key_value: bias, output: bias, ..Biases::default() };
        if config.family == Family::Gemma {
            return Ok(());
        }
        config.block = BlockForm::Sandwich;
        config.attention_scale = 1.0 / file.query_pre_attn_scalar.unwrap_or(256.0).sqrt();
        let second = config.family == Family::Gemma2;
        config.attention_cap = file.attn_logit_softcapping.unwrap_or(second.then_some(50.0));
        config.logit_cap = file.final_logit_softcapping.unwrap_or(second.then_some(30.0));
        if second {
            return self.windows(config, |n| n.is_multiple_of(2));
        }
        config.query_key_norm = QueryKeyNorm::EachHead;
        let every =
            file.sliding_window_pattern.or(file.sliding_window_pattern_new).unwrap_or(6).max(1) as usize;
        self.windows(config, |n| !(n + 1).is_multiple_of(every))?;
        let local = match file.rope_parameters.as_ref().map(|json| &json["sliding_attention"]) {
            Some(json) if json.is_object() => self.rope(json, None)?,
            _ => Rope { theta: file.rope_local_base_freq.unwrap_or(1e4), scaling: RopeScaling::None },
        };
        if file.rope_parameters.is_none() && file.rope_theta.is_none() {
            config.ropes[0].theta = 1e6;
        }
        config.ropes.push(local);
        for form in &mut config.layer_forms {
            form.rope = Some(usize::from(form.window.is_some()));
        }
        Ok(())
    }

    fn smollm3(&self, config: &mut ModelConfig) -> Result<(), CheckpointError> {
        let file = self.file;
        let bias = file.attention_bias == Some(true);
        config.biases =
            Biases { query_key_value: bias, output: bias, mlp: file.mlp_bias == Some(true), head: false };
        let every = file.no_rope_layer_interval.unwrap_or(4).max(1) as usize;
        for (n, form) in config.layer_forms.iter_mut().enumerate() {
            // 1: the layer uses positions.
            let has = match &file.no_rope_layers {
                Some(listed) => listed.get(n).is_none_or(|has| *has == 1),
                None => !(n + 1).is_multiple_of(every),
            };
            form.rope = has.then_some(0);
        }
        if file.use_sliding_window == Some(true) {
            let positions: Vec<bool> = config.layer_forms.iter().map(|form| form.rope.is_some()).collect();
            self.windows(config, |n| positions[n])?;
        }
        Ok(())
    }
}
