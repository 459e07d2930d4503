//! Measures the rate of matrix products, for estimates of trainings that have not run on this machine.

use std::time::{Duration, Instant};

use tch::{Cuda, Device, Kind, Tensor};

/// Rows of a pass, and a width between those of small and large models.
const ROWS: i64 = 2048;
const WIDTH: i64 = 2048;

/// Long enough for caches and clocks to settle, short enough to be waited for.
const LEAST: Duration = Duration::from_millis(300);

/// Floating-point operations per second of products `[2048, 2048] · [2048, 2048]` in a dtype, with all threads.
pub(crate) fn product_rate(kind: Kind, device: Device) -> f64 {
    let _no_grad = tch::no_grad_guard();
    let rows = Tensor::ones([ROWS, WIDTH], (kind, device));
    let weight = Tensor::ones([WIDTH, WIDTH], (kind, device));
    let product = || drop(rows.matmul(&weight));
    product();
    finish(device);
    let (started, mut fastest) = (Instant::now(), f64::INFINITY);
    // The fastest one: other processes slow some of them down.
    while started.elapsed() < LEAST {
        let began = Instant::now();
        product();
        finish(device);
        fastest = fastest.min(began.elapsed().as_secs_f64());
    }
    2.0 * ROWS as f64 * (WIDTH * WIDTH) as f64 / fastest
}

/// Waits until a GPU has computed what was queued.
fn finish(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_a_processor() {
        let rate = product_rate(Kind::Float, Device::Cpu);
        assert!((1e8..1e16).contains(&rate), "{rate}");
    }
}
