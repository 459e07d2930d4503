//! The decoder: weights, one block implementation for all layers and families, hidden states and logits of a pass.

mod attention;
mod batch;
mod block;
mod embedding;
mod group;
mod linear;
mod load;
mod norm;
mod pages;
mod rope;
mod rows;

use floor::pretrained::{LayerName, ModelConfig};
use tch::{Device, Kind, Tensor};

use attention::{Attend, Sequences};
pub(crate) use batch::{Batch, filled};
use block::{Block, PassContext};
use embedding::Embedding;
use group::Group;
#[cfg(test)]
pub(crate) use linear::FourBitMatrix;
pub(crate) use linear::{Linear, Storage, dequantized, row_norms};
pub(crate) use load::load;
use norm::NormWeights;
pub(crate) use pages::{PAGE, PageForm, PagedBatch, Pages, Sequence};
use rope::{Frequencies, Rotation};
pub(crate) use rows::RowRule;

use crate::lora::Active;
use crate::tensor::wide;

/// A loaded base model; none of its tensors requires a gradient.
pub(crate) struct Model {
    pub(crate) config: ModelConfig,
    /// Compute dtype.
    pub(crate) kind: Kind,
    embedding: Embedding,
    /// Embedding scale, if any.
    embedding_scale: Option<Tensor>,
    blocks: Vec<Block>,
    final_norm: NormWeights,
    /// `[vocab, hidden]`; the embedding itself if the head is tied and not quantized.
    head: Group,
    frequencies: Frequencies,
    /// Found when it is first asked for.
    row_rule: std::cell::OnceCell<RowRule>,
}

/// A pass in progress through the blocks.
pub(crate) struct Passage<'a> {
    model: &'a Model,
    turns: Vec<Rotation>,
    batch: &'a Batch,
    adapter: Option<&'a Active<'a>>,
}

impl Model {
    /// The weights' device.
    pub(crate) fn device(&self) -> Device {
        self.embedding.device()
    }

    /// Hidden states `[tokens, hidden]` after the last norm, for concatenated sequences.
    pub(crate) fn hidden_states(&self, batch: &Batch, adapter: Option<&Active>) -> Tensor {
        let passage = self.passage(batch, adapter);
        let mut states = passage.embedded();
        for number in 0..self.blocks.len() {
            states = passage.block(number, &states);
        }
        self.last_norm(&states)
    }

    /// Hidden states `[tokens, hidden]` after the last norm, with visibility defined by `attend`.
    pub(crate) fn walk(&self, batch: &Batch, adapter: Option<&Active>, attend: &mut dyn Attend) -> Tensor {
        let passage = self.passage(batch, adapter);
        let mut states = passage.embedded();
        for block in &self.blocks {
            states = block.forward(&states, &passage.context(), attend);
        }
        self.last_norm(&states)
    }

    /// Sizes of the keys and values of its tokens.
    fn page_form(&self) -> PageForm {
        PageForm {
            layers: self.blocks.len(),
            kv_heads: self.config.kv_heads as i64,
            head_dim: self.config.head_dim as i64,
            kind: self.kind,
            device: self.device(),
        }
    }

    /// Pages for the keys and values of sequences.
    pub(crate) fn pages(&self) -> Pages {
        Pages::new(self.page_form())
    }

    /// Bytes of a page over all layers.
    pub(crate) fn page_bytes(&self) -> u64 {
        self.page_form().bytes()
    }

    /// A pass block by block.
    pub(crate) fn passage<'a>(&'a self, batch: &'a Batch, adapter: Option<&'a Active<'a>>) -> Passage<'a> {
        Passage { model: self, turns: self.frequencies.at(&batch.positions, self.kind), batch, adapter }
    }

    /// The last norm of states `[tokens, hidden]`.
    pub(crate) fn last_norm(&self, states: &Tensor) -> Tensor {
        self.final_norm.forward(states, self.config.norm, self.config.norm_eps)
    }

    /// Logits `[rows, vocab]` of hidden states `[rows, hidden]`, in single or double precision.
    pub(crate) fn logits(&self, states: &Tensor, adapter: Option<&Active>) -> Tensor {
        let logits = self.plain_logits(states, adapter).to_kind(wide(self.kind));
        match self.config.logit_cap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }

    /// Like [`Self::logits`], in the compute dtype and without the model's cap.
    pub(crate) fn plain_logits(&self, states: &Tensor, adapter: Option<&Active>) -> Tensor {
        self.head.forward(states, adapter)
    }

    /// A layer that can have an adapter.
    pub(crate) fn linear(&self, name: LayerName) -> Option<&Linear> {
        match name {
            LayerName::Head => self.head.layer(name),
            LayerName::Block(n, projection) => self.blocks.get(n)?.layer(projection),
            _ => None,
        }
    }

    /// Whether a tensor equals this model's embedding bit for bit.
    pub(crate) fn has_embedding(&self, embedding: &Tensor) -> bool {
        self.embedding.equals(embedding)
    }

    /// Whether a tensor equals this model's head bit for bit.
    pub(crate) fn has_head(&self, head: &Tensor) -> bool {
        self.linear(LayerName::Head).is_some_and(|linear| {
            let weight = linear.weight.dense();
            weight.size() == head.size() && weight.equal(head)
        })
    }
}

impl Passage<'_> {
    fn context(&self) -> PassContext<'_> {
        PassContext { config: &self.model.config, turns: &self.turns, adapter: self.adapter }
    }

    /// States `[tokens, hidden]` before the first block.
    pub(crate) fn embedded(&self) -> Tensor {
        let states = self.model.embedding.of(&self.batch.tokens);
        match &self.model.embedding_scale {
            Some(scale) => states * scale,
            None => states,
        }
    }

    /// States after a block.
    pub(crate) fn block(&self, number: usize, states: &Tensor) -> Tensor {
        let mut attend = Sequences(&self.batch.runs);
        self.model.blocks[number].forward(states, &self.context(), &mut attend)
    }
}
