//! How long what both programs share takes, without a tensor: passes of a pack, the trie of many requests, 4-bit codes.

use std::error::Error;
use std::hint::black_box;
use std::io::Write as _;
use std::time::Instant;

use loragrid::passes::{PackWindows, RowSequence};
use loragrid::quant::{Code, NestedAbsmax, quantize};
use loragrid::random::{Purpose, Stream};
use loragrid::trie::{Query, Trie};

const REPETITIONS: usize = 5;

/// Prints the median time of some work, and how much of it was done in a second.
fn time<T>(name: &str, amount: f64, unit: &str, work: impl Fn() -> T) -> std::io::Result<()> {
    let mut seconds: Vec<f64> = (0..REPETITIONS)
        .map(|_| {
            let start = Instant::now();
            black_box(work());
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[REPETITIONS / 2];
    let rate = amount / median / 1e6;
    writeln!(std::io::stderr(), "{name}: {:.2} ms, {rate:.1} million {unit} a second", median * 1e3)
}

fn main() -> Result<(), Box<dyn Error>> {
    let lengths: Vec<usize> = (0..52_000).map(|n| 40 + (n * 7919) % 216).collect();
    time("passes of 8 members, 128 rows a window, 40 windows each", 8.0 * 40.0 * 128.0, "rows", || {
        let mut pack = PackWindows::new(8);
        let mut sequences: Vec<RowSequence> = (0..8)
            .map(|seed| RowSequence::new(loragrid::job::RowOrder::Shuffle, seed, lengths.iter().copied()))
            .collect();
        let order: Vec<usize> = (0..8).collect();
        let mut passes = 0;
        for window in 0..40 {
            for (member, sequence) in sequences.iter_mut().enumerate() {
                let rows = window * 128..(window + 1) * 128;
                let row_lengths: Vec<usize> = rows.map(|place| lengths[sequence.row(place)]).collect();
                pack.open(member, &row_lengths);
            }
            while pack.next_pass(&order, 1024).is_some() {
                passes += 1;
            }
        }
        passes
    })?;

    // 800 questions of 250 tokens with 25 answers of 12 each, the shape of TruthfulQA.
    let stream = Stream::new(1, Purpose::Data, 0);
    let token = |place: u64| (stream.bits(place) % 49_152) as u32;
    let inputs: Vec<Vec<u32>> = (0..800u64)
        .flat_map(|question| {
            (0..25u64).map(move |answer| {
                let header = (0..200).map(token);
                let question_tokens = (0..50).map(move |n| token(1000 + question * 50 + n));
                let answer_tokens =
                    (0..12).map(move |n| token(1_000_000 + (question * 25 + answer) * 12 + n));
                header.chain(question_tokens).chain(answer_tokens).collect()
            })
        })
        .collect();
    let queries: Vec<Query<'_>> =
        inputs.iter().map(|input| Query { input, targets: &input[input.len() - 12..] }).collect();
    let tokens = inputs.iter().map(Vec::len).sum::<usize>() as f64;
    time("trie of 20,000 requests", tokens, "tokens", || Trie::new(&queries, 1024).tokens())?;

    let weights: Vec<f32> = (0..1536 * 576).map(|n| stream.normal(n) as f32 * 0.05).collect();
    let elements = weights.len() as f64;
    time("nf4 of 1536 × 576", elements, "elements", || quantize(&weights, Code::Nf4))?;
    time("nf4 of 1536 × 576 with double quantization", elements, "elements", || {
        let data = quantize(&weights, Code::Nf4);
        let mean = data.absmax.iter().sum::<f32>() / data.absmax.len() as f32;
        NestedAbsmax::quantize(&data.absmax, mean)
    })?;
    Ok(())
}
