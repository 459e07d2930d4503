//! One decoder block, as configured.

use std::collections::BTreeMap;

use floor::pretrained::{
    Activation, BlockForm, LayerForm, LayerName, ModelConfig, NormPlace, Projection, QueryKeyNorm,
};
use tch::{Device, Tensor};

use super::attention::{Attend, Rules};
use super::group::Group;
use super::linear::Linear;
use super::norm::{NormWeights, rms_form};
use super::rope::Rotation;
use crate::failure::EngineError;
use crate::lora::Active;
use crate::shim::{self, AttentionForm, BlockShape};
use crate::tensor::wide;

/// The weights of one block.
pub(crate) struct Block {
    number: usize,
    form: LayerForm,
    norms: BTreeMap<NormPlace, NormWeights>,
    /// Query, key, value.
    attention: Group,
    output: Group,
    /// Gate and up, or up only.
    feed: Group,
    down: Group,
    /// Whether [`shim::block`] computes products with its matrices.
    has_tiles: bool,
}

/// Shared state of all blocks in a pass.
pub(super) struct PassContext<'a> {
    pub(super) config: &'a ModelConfig,
    /// One per rotary table of the configuration.
    pub(super) turns: &'a [Rotation],
    pub(super) adapter: Option<&'a Active<'a>>,
}

impl Block {
    /// A block of these layers, all of which must exist.
    pub(super) fn new(
        number: usize,
        form: LayerForm,
        norms: BTreeMap<NormPlace, NormWeights>,
        mut matrices: BTreeMap<Projection, Linear>,
    ) -> Result<Self, EngineError> {
        let mut group = |projections: &[Projection]| {
            let named = |p: &Projection| Some((LayerName::Block(number, *p), matrices.remove(p)?));
            Group::new(projections.iter().filter_map(named).collect())
        };
        let attention = group(&[Projection::Query, Projection::Key, Projection::Value])?;
        let output = group(&[Projection::Output])?;
        let feed = group(&[Projection::Gate, Projection::Up])?;
        let down = group(&[Projection::Down])?;
        let kind = norms.values().next().map(|norm| norm.weight.kind());
        let has_tiles = match [&attention, &output, &feed, &down].map(Group::frozen) {
            [Some(attention), Some(output), Some(feed), Some(down)] => {
                kind.is_some_and(|kind| shim::has_block([attention, output, feed, down], kind))
            }
            _ => false,
        };
        Ok(Self { number, form, norms, attention, output, feed, down, has_tiles })
    }

    /// Its products.
    pub(super) fn groups(&self) -> [&Group; 4] {
        [&self.attention, &self.output, &self.feed, &self.down]
    }

    /// A layer that can have an adapter.
    pub(super) fn layer(&self, projection: Projection) -> Option<&Linear> {
        let name = LayerName::Block(self.number, projection);
        [&self.attention, &self.output, &self.feed, &self.down]
            .into_iter()
            .find_map(|group| group.layer(name))
    }

    /// States `[tokens, hidden]` after this block; `attend` defines what each token sees.
    pub(super) fn forward(&self, states: &Tensor, pass: &PassContext<'_>, attend: &mut dyn Attend) -> Tensor {
        self.in_tiles(states, pass, attend).unwrap_or_else(|| self.by_layers(states, pass, attend))
    }

    /// The block as one node, where it is one that [`shim::block`] computes.
    fn in_tiles(&self, states: &Tensor, pass: &PassContext<'_>, attend: &mut dyn Attend) -> Option<Tensor> {
        let config = pass.config;
        let plain = config.block == BlockForm::PreNorm
            && config.gated
            && config.activation == Activation::Silu
            && config.query_key_norm == QueryKeyNorm::None;
        let norm = rms_form(config.norm).filter(|_| plain && self.has_tiles)?;
        let (groups, rows) = (self.groups(), states.size()[0]);
        let mut parts = [const { Vec::new() }; 4];
        if let Some(active) = pass.adapter.filter(|active| active.is_of(wide(states.kind()))) {
            for (parts, group) in parts.iter_mut().zip(groups) {
                *parts = group.low_rank(active, rows)?;
            }
        } else if pass.adapter.is_some() {
            return None;
        }
        let runs = attend.sequences(states, self.rules(config))?;
        let [attention, output, feed, down] = groups.map(Group::frozen);
        let shape = BlockShape {
            norms: [NormPlace::BeforeAttention, NormPlace::BeforeMlp].map(|place| &self.norms[&place].weight),
            eps: config.norm_eps,
            norm,
            attention: attention_form(config),
        };
        Some(shim::block(
            [attention?, output?, feed?, down?],
            &shape,
            [&parts[0], &parts[1], &parts[2], &parts[3]],
            states,
            self.form.rope.map(|table| pass.turns[table].tables()),
            runs.iter().map(|run| (run.count, run.length)),
        ))
    }

    /// The block layer by layer, in any form.
    fn by_layers(&self, states: &Tensor, pass: &PassContext<'_>, attend: &mut dyn Attend) -> Tensor {
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
        // Loading sets every norm in the configuration.
        self.norms[&place].forward(x, pass.config.norm, pass.config.norm_eps)
    }

    fn attention(&self, x: &Tensor, pass: &PassContext<'_>, attend: &mut dyn Attend) -> Tensor {
        let config = pass.config;
        let joined = self.attention.forward(x, pass.adapter);
        let rules = self.rules(config);
        let plain = config.query_key_norm == QueryKeyNorm::None;
        let attended = match attend.sequences(&joined, rules).filter(|_| plain) {
            Some(runs) => {
                let turn = self.form.rope.map(|table| pass.turns[table].tables());
                shim::attention(
                    &joined,
                    turn,
                    runs.iter().map(|run| (run.count, run.length)),
                    attention_form(config),
                )
            }
            None => {
                let [query, key, value] = self.heads(&joined, pass);
                attend.attend(self.number, &query, &key, &value, rules)
            }
        };
        self.output.forward(&attended, pass.adapter)
    }

    fn rules(&self, config: &ModelConfig) -> Rules {
        Rules {
            scale: config.attention_scale,
            cap: config.attention_cap,
            window: self.form.window.map(|window| window as i64),
        }
    }

    /// Queries `[tokens, heads, head_dim]`, keys and values `[tokens, kv_heads, head_dim]`, after norms and rotary positions.
    fn heads(&self, joined: &Tensor, pass: &PassContext<'_>) -> [Tensor; 3] {
        let config = pass.config;
        let heads = |x: Tensor, count: u64| x.reshape([-1, count as i64, config.head_dim as i64]);
        let mut parts = joined.split_with_sizes(self.attention.widths(), 1).into_iter();
        let [mut query, mut key, value] = [(); 3].map(|()| parts.next().unwrap_or_default());
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
        [query, key, heads(value, config.kv_heads)]
    }

    fn mlp(&self, x: &Tensor, pass: &PassContext<'_>) -> Tensor {
        let joined = self.feed.forward(x, pass.adapter);
        let config = pass.config;
        let silu = config.activation == Activation::Silu;
        let inner = if config.gated && silu && joined.device() == Device::Cpu {
            shim::gated_silu(&joined)
        } else if config.gated {
            let parts = joined.chunk(2, 1);
            activate(&parts[0], config.activation) * &parts[1]
        } else {
            activate(&joined, config.activation)
        };
        self.down.forward(&inner, pass.adapter)
    }
}

fn attention_form(config: &ModelConfig) -> AttentionForm {
    AttentionForm {
        heads: config.heads as i64,
        kv_heads: config.kv_heads as i64,
        head_dim: config.head_dim as i64,
        scale: config.attention_scale,
    }
}

fn activate(x: &Tensor, activation: Activation) -> Tensor {
    match activation {
        Activation::Silu => x.silu(),
        Activation::Gelu => x.gelu("none"),
        Activation::GeluTanh => x.gelu("tanh"),
    }
}
