//! Learning rates: the factor by which the peak is multiplied before each optimizer step.

use crate::job::Schedule;

/// The factor before step `step` (from 0) of `steps`, after `warmup` steps that rise from 0 on a line. Agrees with
/// transformers' `get_scheduler` for constant-with-warm-up, linear and cosine.
pub fn factor(schedule: Schedule, step: u64, steps: u64, warmup: u64) -> f64 {
    if step < warmup {
        return step as f64 / warmup.max(1) as f64;
    }
    let span = steps.saturating_sub(warmup).max(1) as f64;
    let progress = (step - warmup) as f64 / span;
    match schedule {
        Schedule::Constant => 1.0,
        Schedule::Linear => (1.0 - progress).max(0.0),
        Schedule::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_starts_at_zero_and_reaches_the_peak() {
        let factors: Vec<f64> = (0..6).map(|step| factor(Schedule::Constant, step, 10, 4)).collect();
        assert_eq!(factors, [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]);
    }

    #[test]
    fn linear_and_cosine_fall_to_zero_at_the_end() {
        for schedule in [Schedule::Linear, Schedule::Cosine] {
            assert_eq!(factor(schedule, 2, 10, 2), 1.0, "{schedule:?}");
            assert_eq!(factor(schedule, 6, 10, 2), 0.5, "{schedule:?}");
            assert!(factor(schedule, 10, 10, 2).abs() < 1e-15, "{schedule:?}");
        }
    }
}
