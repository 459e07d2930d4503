//! One block of the decoder, as the configuration describes it.

use std::collections::BTreeMap;

use loragrid::checkpoint::{
    Activation, BlockForm, LayerForm, LayerName, ModelConfig, NormPlace, Projection, QueryKeyNorm,
};
use tch::Tensor;

use super::attention::{Attend, Rules};
use super::linear::Linear;
use super::norm::NormWeights;
use super::rope::Turn;
use crate::lora::Active;

/// The weights of one block.
pub(crate) struct Block {
    pub(super) number: usize,
    pub(super) form: LayerForm,
    pub(super) norms: BTreeMap<NormPlace, NormWeights>,
    pub(super) matrices: BTreeMap<Projection, Linear>,
}

/// What all blocks of a pass share.
pub(super) struct PassContext<'a> {
    pub(super) config: &'a ModelConfig,
    /// One for each of the configuration's rotary tables.
    pub(super) turns: &'a [Turn],
    pub(super) adapter: Option<&'a Active<'a>>,
}

impl Block {
    /// States `[tokens, hidden]` after this block; `attend` knows what each token sees.
    pub(super) fn forward(&self, states: &Tensor, pass: &PassContext<'_>, attend: &mut dyn Attend) -> Tensor {
        use NormPlace::*;
        let norm = |place, x: &Tensor| self.norm(place, x, pass);
        match pass.config.block {
            BlockForm::PreNorm => {
                let states = states + self.attention(&norm(BeforeAttention, states), pass, attend);
                &states + self.mlp(&norm(BeforeMlp, &states), pass)
            }
            BlockForm::PostNorm => {
                let states = states + norm(AfterAttention, &self.attention(states, pass, attend));
                &states + norm(AfterMlp, &self.mlp(&states, pass))
            }
            BlockForm::Sandwich => {
                let attended = self.attention(&norm(BeforeAttention, states), pass, attend);
                let states = states + norm(AfterAttention, &attended);
                let fed = self.mlp(&norm(BeforeMlp, &states), pass);
                &states + norm(AfterMlp, &fed)
            }
            BlockForm::Parallel => {
                let x = norm(BeforeAttention, states);
                self.attention(&x, pass, attend) + self.mlp(&x, pass) + states
            }
            BlockForm::ParallelTwoNorms => {
                let attended = self.attention(&norm(BeforeAttention, states), pass, attend);
                attended + self.mlp(&norm(BeforeMlp, states), pass) + states
            }
        }
    }

    fn norm(&self, place: NormPlace, x: &Tensor, pass: &PassContext<'_>) -> Tensor {
        // Loading fills in every norm that the configuration names.
        self.norms[&place].forward(x, pass.config.norm, pass.config.norm_eps)
    }

    fn linear(&self, projection: Projection, x: &Tensor, pass: &PassContext<'_>) -> Tensor {
        let linear = &self.matrices[&projection];
        apply(x, linear, LayerName::Block(self.number, projection), pass.adapter)
    }

    fn attention(&self, x: &Tensor, pass: &PassContext<'_>, attend: &mut dyn Attend) -> Tensor {
        let config = pass.config;
        let heads = |x: Tensor, count: u64| x.view([-1, count as i64, config.head_dim as i64]);
        let mut query = self.linear(Projection::Query, x, pass);
        let mut key = self.linear(Projection::Key, x, pass);
        if config.query_key_norm == QueryKeyNorm::Whole {
            query = self.norm(NormPlace::Query, &query, pass);
            key = self.norm(NormPlace::Key, &key, pass);
        }
        let (mut query, mut key) = (heads(query, config.heads), heads(key, config.kv_heads));
        if config.query_key_norm == QueryKeyNorm::EachHead {
            query = self.norm(NormPlace::Query, &query, pass);
            key = self.norm(NormPlace::Key, &key, pass);
        }
        if let Some(table) = self.form.rope {
            query = pass.turns[table].rotate(&query);
            key = pass.turns[table].rotate(&key);
        }
        let value = heads(self.linear(Projection::Value, x, pass), config.kv_heads);
        let rules = Rules {
            scale: config.attention_scale,
            cap: config.attention_cap,
            window: self.form.window.map(|window| window as i64),
        };
        let attended = attend.attend(self.number, &query, &key, &value, rules);
        self.linear(Projection::Output, &attended, pass)
    }

    fn mlp(&self, x: &Tensor, pass: &PassContext<'_>) -> Tensor {
        let activate = |x: Tensor| match pass.config.activation {
            Activation::Silu => x.silu(),
            Activation::Gelu => x.gelu("none"),
            Activation::GeluTanh => x.gelu("tanh"),
        };
        let inner = if pass.config.gated {
            activate(self.linear(Projection::Gate, x, pass)) * self.linear(Projection::Up, x, pass)
        } else {
            activate(self.linear(Projection::Up, x, pass))
        };
        self.linear(Projection::Down, &inner, pass)
    }
}

/// x·Wᵀ + b, plus the adapter's part where the layer has one.
pub(super) fn apply(x: &Tensor, linear: &Linear, name: LayerName, adapter: Option<&Active>) -> Tensor {
    match adapter {
        Some(active) => active.forward(name, x, linear),
        None => linear.forward(x),
    }
}
