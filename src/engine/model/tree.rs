//! Attention for branching runs of tokens: each run sees its ancestors, whose keys and values are cached, and itself.

use std::cell::Cell;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::attention::{Attend, Rules, additive, masked};
use super::batch::filled;

/// Keys and values of every layer from the root to the end of a run, `[tokens, kv_heads, head_dim]` each.
pub(crate) struct Kept {
    layers: Vec<(Tensor, Tensor)>,
    tokens: i64,
    bytes: u64,
    account: Account,
}

/// Bytes cached by one walk.
#[derive(Clone, Default)]
pub(crate) struct Account(Rc<Cell<u64>>);

impl Account {
    /// Current bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.get()
    }
}

impl Kept {
    fn new(layers: Vec<(Tensor, Tensor)>, account: &Account) -> Self {
        let size = |x: &Tensor| x.numel() as u64 * x.kind().elt_size_in_bytes() as u64;
        let bytes = layers.iter().map(|(key, value)| size(key) + size(value)).sum();
        account.0.set(account.0.get() + bytes);
        let tokens = layers.first().map_or(0, |(key, _)| key.size()[0]);
        Self { layers, tokens, bytes, account: account.clone() }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.account.0.set(self.account.0.get() - self.bytes);
    }
}

/// Runs of a pass after the same cached run; they are contiguous in the pass.
pub(crate) struct Branch {
    /// The cached run before them; none at the root.
    pub(crate) after: Option<Rc<Kept>>,
    /// Tokens of each run.
    pub(crate) lengths: Vec<i64>,
    /// Whether each run's keys and values are cached for later runs.
    pub(crate) keep: Vec<bool>,
}

impl Branch {
    /// An unused run that pads a pass of `tokens` tokens to enough rows; none if it has enough.
    pub(crate) fn filler(tokens: i64) -> Option<Self> {
        let lacking = filled(tokens) - tokens;
        (lacking > 0).then(|| Self { after: None, lengths: vec![lacking], keep: vec![false] })
    }

    /// Total tokens of its runs.
    pub(crate) fn tokens(&self) -> i64 {
        self.lengths.iter().sum()
    }

    fn known(&self) -> i64 {
        self.after.as_ref().map_or(0, |kept| kept.tokens)
    }

    /// Mask `[tokens, known + tokens]`: each token sees the cached run and, in its own run, itself and those before it;
    /// only the last `window` of them. Additive, in the queries' dtype.
    fn mask(&self, window: Option<i64>, query: &Tensor) -> Tensor {
        let (known, tokens) = (self.known(), self.tokens());
        let (mut run, mut place) = (Vec::new(), Vec::new());
        for (number, &length) in self.lengths.iter().enumerate() {
            run.extend(std::iter::repeat_n(number as i64, length as usize));
            place.extend(known..known + length);
        }
        let (run, place) = (Tensor::from_slice(&run), Tensor::from_slice(&place));
        let earlier = Tensor::arange(known, (Kind::Int64, Device::Cpu));
        let key_place = Tensor::cat(&[&earlier, &place], 0);
        let same_run = run.unsqueeze(1).eq_tensor(&run.unsqueeze(0));
        let before = Tensor::ones([tokens, known], (Kind::Bool, Device::Cpu));
        let distance = place.unsqueeze(1) - key_place.unsqueeze(0);
        let mut mask = Tensor::cat(&[before, same_run], 1).logical_and(&distance.ge(0));
        if let Some(window) = window {
            mask = mask.logical_and(&distance.lt(window));
        }
        additive(&mask, query.kind()).to_device(query.device())
    }
}

/// The attention of a pass of branches. After the pass, [`Tree::kept`] holds the runs to cache.
pub(crate) struct Tree {
    branches: Vec<Branch>,
    /// Masks by branch: without a window, and with the model's window.
    masks: Vec<[Option<Tensor>; 2]>,
    /// Keys and values of the cached runs, by branch and run.
    growing: Vec<Vec<(Tensor, Tensor)>>,
}

impl Tree {
    /// Branches in the order of their runs in the pass.
    pub(crate) fn new(branches: Vec<Branch>) -> Self {
        let kept = branches.iter().map(|branch| branch.keep.iter().filter(|keep| **keep).count()).sum();
        let masks = branches.iter().map(|_| [None, None]).collect();
        Self { branches, masks, growing: (0..kept).map(|_| Vec::new()).collect() }
    }

    /// Keys and values up to the end of each cached run, in pass order.
    pub(crate) fn kept(self, account: &Account) -> Vec<Rc<Kept>> {
        self.growing.into_iter().map(|layers| Rc::new(Kept::new(layers, account))).collect()
    }
}

impl Attend for Tree {
    fn attend(&mut self, layer: usize, query: &Tensor, key: &Tensor, value: &Tensor, rules: Rules) -> Tensor {
        let mut parts = Vec::with_capacity(self.branches.len());
        let (mut start, mut grown) = (0, 0);
        for (branch, masks) in self.branches.iter().zip(&mut self.masks) {
            let tokens = branch.tokens();
            let part = |x: &Tensor| x.narrow(0, start, tokens);
            let (own_key, own_value) = (part(key), part(value));
            let earlier = branch.after.as_ref().map(|kept| &kept.layers[layer]);
            let (keys, values) = match earlier {
                Some((k, v)) => (Tensor::cat(&[k, &own_key], 0), Tensor::cat(&[v, &own_value], 0)),
                None => (own_key.shallow_clone(), own_value.shallow_clone()),
            };
            let mask = masks[usize::from(rules.window.is_some())]
                .get_or_insert_with(|| branch.mask(rules.window, query));
            parts.push(masked(&part(query), &keys, &values, mask, rules));
            let mut at = 0;
            for (&length, keep) in branch.lengths.iter().zip(&branch.keep) {
                if *keep {
                    let run = |whole: &Tensor, tail: &Tensor| {
                        let tail = tail.narrow(0, at, length);
                        Tensor::cat(&[whole.narrow(0, 0, branch.known()), tail], 0)
                    };
                    self.growing[grown].push((run(&keys, &own_key), run(&values, &own_value)));
                    grown += 1;
                }
                at += length;
            }
            start += tokens;
        }
        Tensor::cat(&parts, 0)
    }
}
