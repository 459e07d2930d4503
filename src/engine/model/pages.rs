//! Keys and values in pages. Sequences with an equal beginning share its pages, and attention reads pages where they lie.

use std::cell::RefCell;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::attention::{Attend, Rules, additive, by_hand};
use super::batch::Batch;
use super::rows::RowRule;
use crate::shim::{self, PagedForm, PagedPass, PagedRow};

/// Tokens of a page; `kPage` of the shim.
pub(crate) const PAGE: usize = 32;

/// Pages of a new pool; it grows to twice as many each time.
const FIRST_PAGES: i64 = 64;

/// The pages of all layers of a model.
#[derive(Clone)]
pub(crate) struct Pages(Rc<RefCell<Pool>>);

struct Pool {
    /// By layer `[pages, kv_heads, head_dim, PAGE]` and `[pages, kv_heads, PAGE, head_dim]`.
    layers: Vec<(Tensor, Tensor)>,
    /// Pages that no sequence has.
    free: Vec<i64>,
    pages: i64,
}

/// A page; it is free again when the last sequence lets go of it.
struct Page {
    number: i64,
    pages: Pages,
}

impl Drop for Page {
    fn drop(&mut self) {
        self.pages.0.borrow_mut().free.push(self.number);
    }
}

/// The keys and values of a sequence's tokens. A clone shares them.
#[derive(Clone, Default)]
pub(crate) struct Sequence {
    pages: Vec<Rc<Page>>,
    tokens: usize,
}

/// Sizes of a model's keys and values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageForm {
    pub(crate) layers: usize,
    pub(crate) kv_heads: i64,
    pub(crate) head_dim: i64,
    pub(crate) kind: Kind,
    pub(crate) device: Device,
}

impl PageForm {
    /// Bytes of a page over all layers.
    pub(crate) fn bytes(&self) -> u64 {
        let elements = 2 * PAGE as i64 * self.kv_heads * self.head_dim * self.layers as i64;
        elements.unsigned_abs() * self.kind.elt_size_in_bytes() as u64
    }
}

impl Pages {
    /// An empty pool.
    pub(crate) fn new(form: PageForm) -> Self {
        let layer = |_| {
            let empty = |shape: [i64; 4]| Tensor::empty(shape, (form.kind, form.device));
            let (page, dim) = (PAGE as i64, form.head_dim);
            (empty([FIRST_PAGES, form.kv_heads, dim, page]), empty([FIRST_PAGES, form.kv_heads, page, dim]))
        };
        let layers = (0..form.layers).map(layer).collect();
        let pool = Pool { layers, free: (0..FIRST_PAGES).rev().collect(), pages: FIRST_PAGES };
        Self(Rc::new(RefCell::new(pool)))
    }

    /// Pages that sequences have.
    pub(crate) fn used(&self) -> u64 {
        let pool = self.0.borrow();
        pool.pages.unsigned_abs() - pool.free.len() as u64
    }

    fn take(&self) -> Rc<Page> {
        let number = {
            let mut pool = self.0.borrow_mut();
            match pool.free.pop() {
                Some(number) => number,
                None => pool.grow(),
            }
        };
        Rc::new(Page { number, pages: self.clone() })
    }
}

impl Pool {
    /// Doubles the pages; returns one of the new ones.
    fn grow(&mut self) -> i64 {
        let (old, new) = (self.pages, 2 * self.pages);
        let larger = |tensor: &Tensor| {
            let mut shape = tensor.size();
            shape[0] = new;
            let larger = Tensor::empty(shape, (tensor.kind(), tensor.device()));
            larger.narrow(0, 0, old).copy_(tensor);
            larger
        };
        for (keys, values) in &mut self.layers {
            *keys = larger(keys);
            *values = larger(values);
        }
        self.pages = new;
        self.free.extend((old + 1..new).rev());
        old
    }
}

impl Sequence {
    /// Its tokens.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// The same without the tokens after the first ones.
    pub(crate) fn truncated(mut self, tokens: usize) -> Self {
        self.tokens = self.tokens.min(tokens);
        self.pages.truncate(self.tokens.div_ceil(PAGE));
        self
    }
}

/// A pass over tokens of several sequences, in the order in which they are added.
pub(crate) struct PagedBatch {
    pages: Pages,
    tokens: Vec<i64>,
    positions: Vec<i64>,
    copies: Vec<i64>,
    places: Vec<i64>,
    rows: Vec<PagedRow>,
    tables: Vec<i64>,
}

impl PagedBatch {
    /// An empty pass.
    pub(crate) fn new(pages: &Pages) -> Self {
        Self {
            pages: pages.clone(),
            tokens: Vec::new(),
            positions: Vec::new(),
            copies: Vec::new(),
            places: Vec::new(),
            rows: Vec::new(),
            tables: Vec::new(),
        }
    }

    /// Adds the next tokens of a sequence, which has them from now on. A page that other sequences have too is copied before it is
    /// written to.
    pub(crate) fn add(&mut self, sequence: &mut Sequence, tokens: &[u32]) {
        if !sequence.tokens.is_multiple_of(PAGE)
            && let Some(last) = sequence.pages.last_mut()
            && Rc::strong_count(last) > 1
        {
            let copy = self.pages.take();
            self.copies.extend([last.number, copy.number]);
            *last = copy;
        }
        let first = sequence.tokens;
        sequence.tokens += tokens.len();
        while sequence.pages.len() * PAGE < sequence.tokens {
            sequence.pages.push(self.pages.take());
        }
        let table = self.tables.len() as i64;
        self.tables.extend(sequence.pages.iter().map(|page| page.number));
        for (at, token) in tokens.iter().enumerate() {
            let position = first + at;
            self.tokens.push(i64::from(*token));
            self.positions.push(position as i64);
            self.places.push(sequence.pages[position / PAGE].number * PAGE as i64 + (position % PAGE) as i64);
            self.rows.push(PagedRow { table, first: 0, end: position as i64 + 1 });
        }
    }

    /// Adds rows that nobody asks for, so that small passes use the kernels of large ones; returns the pass as tensors.
    pub(crate) fn finish(&mut self, rule: RowRule, device: Device) -> Batch {
        let rows = self.tokens.len();
        let all = rule.rows(rows as i64) as usize;
        self.tokens.resize(all, 0);
        self.positions.resize(all, 0);
        self.places.resize(all, -1);
        self.rows.resize(all, PagedRow { table: 0, first: 0, end: 0 });
        Batch {
            tokens: Tensor::from_slice(&self.tokens).to_device(device),
            positions: Tensor::from_slice(&self.positions).to_device(device),
            runs: Vec::new(),
        }
    }
}

impl Attend for PagedBatch {
    fn attend(&mut self, layer: usize, query: &Tensor, key: &Tensor, value: &Tensor, rules: Rules) -> Tensor {
        let rows = match rules.window {
            None => self.rows.clone(),
            Some(window) => {
                let seen = |row: &PagedRow| PagedRow { first: (row.end - window).max(0), ..*row };
                self.rows.iter().map(seen).collect()
            }
        };
        let pass =
            PagedPass { copies: &self.copies, places: &self.places, rows: &rows, tables: &self.tables };
        let mut pool = self.pages.0.borrow_mut();
        let (keys, values) = &mut pool.layers[layer];
        if query.device() == Device::Cpu {
            let form =
                PagedForm { scale: rules.scale, cap: rules.cap.unwrap_or(0.0), heads: query.size()[1] };
            return shim::paged_attention([query, key, value], [keys, values], &pass, form);
        }
        write(&pass, [key, value], [keys, values]);
        gathered(&pass, query, [keys, values], rules)
    }
}

/// Copies pages and writes keys and values, in libtorch's own operations.
fn write(pass: &PagedPass<'_>, [key, value]: [&Tensor; 2], [keys, values]: [&mut Tensor; 2]) {
    for pair in pass.copies.chunks_exact(2) {
        for pool in [&*keys, &*values] {
            pool.get(pair[1]).copy_(&pool.get(pair[0]));
        }
    }
    let rows: Vec<i64> =
        (0..pass.places.len() as i64).filter(|row| pass.places[*row as usize] >= 0).collect();
    let places: Vec<i64> = pass.places.iter().copied().filter(|place| *place >= 0).collect();
    let device = key.device();
    let index = |numbers: Vec<i64>| Tensor::from_slice(&numbers).to_device(device);
    let page = index(places.iter().map(|place| place / PAGE as i64).collect());
    let slot = index(places.iter().map(|place| place % PAGE as i64).collect());
    let rows = index(rows);
    let at = [Some(&page), Some(&slot)];
    // Views with a page's tokens first.
    let _ = keys.permute([0, 3, 1, 2]).index_put_(&at, &key.index_select(0, &rows), false);
    let _ = values.permute([0, 2, 1, 3]).index_put_(&at, &value.index_select(0, &rows), false);
}

/// Attention output `[tokens, heads × head_dim]`, sequence by sequence with their pages gathered: for devices without a kernel of
/// their own.
fn gathered(pass: &PagedPass<'_>, query: &Tensor, [keys, values]: [&Tensor; 2], rules: Rules) -> Tensor {
    let (heads, head_dim) = (query.size()[1], query.size()[2]);
    let mut parts = Vec::new();
    let mut start = 0;
    while start < pass.rows.len() {
        let table = pass.rows[start].table;
        let is_filling = pass.rows[start].end == 0;
        let same = |row: &&PagedRow| row.table == table && (row.end == 0) == is_filling;
        let count = pass.rows[start..].iter().take_while(same).count();
        let rows = &pass.rows[start..start + count];
        if is_filling {
            parts.push(Tensor::zeros([count as i64, heads * head_dim], (query.kind(), query.device())));
        } else {
            let query = query.narrow(0, start as i64, count as i64);
            parts.push(of_sequence(&query, [keys, values], (rows, &pass.tables[table as usize..]), rules));
        }
        start += count;
    }
    Tensor::cat(&parts, 0)
}

fn of_sequence(
    query: &Tensor,
    [keys, values]: [&Tensor; 2],
    (rows, tables): (&[PagedRow], &[i64]),
    rules: Rules,
) -> Tensor {
    let (tokens, heads, head_dim) = (query.size()[0], query.size()[1], query.size()[2]);
    let end = rows.iter().map(|row| row.end).max().unwrap_or(0);
    let pages = (end as usize).div_ceil(PAGE);
    let table = Tensor::from_slice(&tables[..pages]).to_device(query.device());
    // [pages, kv_heads, head_dim, PAGE] → [1, kv_heads, end, head_dim]
    let kv_heads = keys.size()[1];
    let flat = |x: Tensor| x.reshape([1, kv_heads, -1, head_dim]).narrow(2, 0, end);
    let key = flat(keys.index_select(0, &table).permute([1, 0, 3, 2]));
    let value = flat(values.index_select(0, &table).permute([1, 0, 2, 3]));
    let query = query.unsqueeze(0).transpose(1, 2);
    let place = Tensor::arange(end, (Kind::Int64, query.device())).unsqueeze(0);
    let bound = |of: fn(&PagedRow) -> i64| {
        Tensor::from_slice(&rows.iter().map(of).collect::<Vec<i64>>()).to_device(query.device()).unsqueeze(1)
    };
    let seen = place.ge_tensor(&bound(|row| row.first)).logical_and(&place.lt_tensor(&bound(|row| row.end)));
    let mask = additive(&seen, query.kind());
    let attended = if rules.cap.is_some() {
        by_hand(&query, &key, &value, Some(&mask), rules)
    } else {
        let grouped = kv_heads != heads;
        Tensor::scaled_dot_product_attention(
            &query,
            &key,
            &value,
            Some(&mask),
            0.0,
            false,
            rules.scale,
            grouped,
        )
    };
    attended.transpose(1, 2).reshape([tokens, heads * head_dim])
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: PageForm =
        PageForm { layers: 1, kv_heads: 2, head_dim: 16, kind: Kind::Float, device: Device::Cpu };

    fn random(rows: i64, heads: i64, kind: Kind) -> Tensor {
        Tensor::randn([rows, heads, FORM.head_dim], (Kind::Double, Device::Cpu)).to_kind(kind)
    }

    fn rules(window: Option<i64>, cap: Option<f64>) -> Rules {
        Rules { scale: 0.25, cap, window }
    }

    /// The attention of one pass over sequences of these lengths after nothing.
    fn attend(pages: &Pages, parts: &[&[Tensor; 3]], rules: Rules) -> (Tensor, Vec<Sequence>) {
        let mut batch = PagedBatch::new(pages);
        let mut sequences = Vec::new();
        for part in parts {
            let mut sequence = Sequence::default();
            batch.add(&mut sequence, &vec![0; part[0].size()[0] as usize]);
            sequences.push(sequence);
        }
        let all = |which: usize| Tensor::cat(&parts.iter().map(|part| &part[which]).collect::<Vec<_>>(), 0);
        (batch.attend(0, &all(0), &all(1), &all(2), rules), sequences)
    }

    fn part(rows: i64, kind: Kind) -> [Tensor; 3] {
        [random(rows, 6, kind), random(rows, 2, kind), random(rows, 2, kind)]
    }

    #[test]
    fn pages_attend_as_masked_attention_does_in_double() {
        for (window, cap) in [(None, None), (Some(7), None), (None, Some(2.0)), (Some(40), Some(2.0))] {
            let parts = part(75, Kind::Double);
            let form = PageForm { kind: Kind::Double, ..FORM };
            let (paged, _) = attend(&Pages::new(form), &[&parts], rules(window, cap));
            let (n, width) = (75, window.unwrap_or(75));
            let seen = Tensor::ones([n, n], (Kind::Bool, Device::Cpu)).tril(0).triu(1 - width);
            let batch = |x: &Tensor| x.unsqueeze(0).transpose(1, 2);
            let mask = additive(&seen, Kind::Double);
            let expected = by_hand(
                &batch(&parts[0]),
                &batch(&parts[1]),
                &batch(&parts[2]),
                Some(&mask),
                rules(window, cap),
            );
            let expected = expected.transpose(1, 2).reshape([n, 96]);
            let difference = (paged - expected).abs().max().double_value(&[]);
            assert!(difference < 1e-12, "{window:?} {cap:?}: {difference}");
        }
    }

    #[test]
    fn a_row_is_the_same_to_the_bit_alone_in_a_pass_and_after_a_shared_beginning() {
        for kind in [Kind::Float, Kind::BFloat16] {
            let pages = Pages::new(PageForm { kind, ..FORM });
            let (first, second) = (part(70, kind), part(33, kind));
            let (together, _) = attend(&pages, &[&first, &second], rules(None, None));
            let (alone, _) = attend(&pages, &[&second], rules(None, None));
            assert!(together.narrow(0, 70, 33).equal(&alone));
            // The first 41 tokens, then the rest one at a time by two sequences that share them.
            let rows = |from: i64, count: i64| first.each_ref().map(|x| x.narrow(0, from, count));
            let (head, sequences) = attend(&pages, &[&rows(0, 41)], rules(None, None));
            assert!(head.equal(&together.narrow(0, 0, 41)));
            let [mut one, mut other] = [sequences[0].clone(), sequences[0].clone()];
            for at in 41..70 {
                let step = rows(at, 1);
                let mut batch = PagedBatch::new(&pages);
                batch.add(&mut one, &[0]);
                batch.add(&mut other, &[0]);
                let twice = step.each_ref().map(|x| Tensor::cat(&[x, x], 0));
                let out = batch.attend(0, &twice[0], &twice[1], &twice[2], rules(None, None));
                let expected = together.narrow(0, at, 1);
                assert!(out.narrow(0, 0, 1).equal(&expected) && out.narrow(0, 1, 1).equal(&expected), "{at}");
            }
        }
    }

    #[test]
    fn gathered_pages_give_what_the_kernel_gives() {
        let parts = [part(40, Kind::Double), part(9, Kind::Double)];
        let pages = Pages::new(PageForm { kind: Kind::Double, ..FORM });
        let mut batch = PagedBatch::new(&pages);
        let mut sequences = [Sequence::default(), Sequence::default()];
        for (sequence, part) in sequences.iter_mut().zip(&parts) {
            batch.add(sequence, &vec![0; part[0].size()[0] as usize]);
        }
        let all = |which: usize| Tensor::cat(&[&parts[0][which], &parts[1][which]], 0);
        let pass = PagedPass {
            copies: &batch.copies,
            places: &batch.places,
            rows: &batch.rows,
            tables: &batch.tables,
        };
        let mut pool = pages.0.borrow_mut();
        let (keys, values) = &mut pool.layers[0];
        write(&pass, [&all(1), &all(2)], [keys, values]);
        let by_operations = gathered(&pass, &all(0), [keys, values], rules(None, None));
        drop(pool);
        let (by_kernel, _) = attend(&pages, &[&parts[0], &parts[1]], rules(None, None));
        let difference = (by_operations - by_kernel).abs().max().double_value(&[]);
        assert!(difference < 1e-12, "{difference}");
    }

    #[test]
    fn pages_are_free_again_and_a_pool_grows() {
        let pages = Pages::new(FORM);
        let mut batch = PagedBatch::new(&pages);
        let mut long = Sequence::default();
        batch.add(&mut long, &vec![0; 100 * PAGE]);
        assert_eq!(pages.used(), 100);
        let short = long.clone().truncated(PAGE + 1);
        assert_eq!((short.tokens(), short.pages.len()), (PAGE + 1, 2));
        drop(long);
        assert_eq!(pages.used(), 2);
        drop(short);
        assert_eq!(pages.used(), 0);
    }
}
