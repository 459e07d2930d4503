//! Learning rate schedules: the factor on the peak before each optimizer step.

use crate::job::{Schedule, ScheduleForm, TrainConfig};

/// The shape of a schedule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// The schedule after warm-up.
    pub schedule: Schedule,
    /// Variant of the cosine schedule.
    pub form: ScheduleForm,
    /// Steps of linear warm-up from 0.
    pub warmup: u64,
    /// End of the cosine as a fraction of the peak.
    pub minimum: f64,
}

impl Shape {
    /// The schedule of a configuration.
    pub fn of(train: &TrainConfig) -> Self {
        Self {
            schedule: train.schedule,
            form: train.schedule_form,
            warmup: train.warmup_steps,
            minimum: train.min_lr_ratio,
        }
    }

    /// The factor before step `step` (from 0) of `steps`. Matches transformers' `get_scheduler` for constant with
    /// warm-up, linear, cosine and cosine with minimum, and Lit-GPT of autumn 2023 for its cosine variant, whose period
    /// is all steps though it decays only after warm-up.
    pub fn factor(self, step: u64, steps: u64) -> f64 {
        if step < self.warmup {
            return step as f64 / self.warmup.max(1) as f64;
        }
        let span = match self.form {
            ScheduleForm::LitGpt2023 if self.schedule == Schedule::Cosine => steps,
            ScheduleForm::LitGpt2023 | ScheduleForm::Transformers => steps.saturating_sub(self.warmup),
        };
        let progress = (step - self.warmup) as f64 / span.max(1) as f64;
        match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Linear => (1.0 - progress).max(0.0),
            Schedule::Cosine => {
                let wave = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
                (wave * (1.0 - self.minimum) + self.minimum).max(0.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(schedule: Schedule, warmup: u64) -> Shape {
        Shape { schedule, form: ScheduleForm::Transformers, warmup, minimum: 0.0 }
    }

    #[test]
    fn warm_up_starts_at_zero_and_reaches_the_peak() {
        let factors: Vec<f64> = (0..6).map(|step| shape(Schedule::Constant, 4).factor(step, 10)).collect();
        assert_eq!(factors, [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]);
    }

    #[test]
    fn linear_and_cosine_fall_to_their_end() {
        for schedule in [Schedule::Linear, Schedule::Cosine] {
            assert_eq!(shape(schedule, 2).factor(2, 10), 1.0, "{schedule:?}");
            assert_eq!(shape(schedule, 2).factor(6, 10), 0.5, "{schedule:?}");
            assert!(shape(schedule, 2).factor(10, 10).abs() < 1e-15, "{schedule:?}");
        }
        let minimum = Shape { minimum: 0.1, ..shape(Schedule::Cosine, 0) };
        assert!((minimum.factor(10, 10) - 0.1).abs() < 1e-15);
    }

    #[test]
    fn the_studys_cosine_ends_at_about_15_percent() {
        let litgpt = Shape { form: ScheduleForm::LitGpt2023, ..shape(Schedule::Cosine, 100) };
        let last = litgpt.factor(389, 390);
        assert!((last - 0.1565538).abs() < 1e-6, "{last}");
    }

    #[test]
    fn every_schedule_equals_its_reference_step_by_step() {
        let root = std::env::var("LORAGRID_REFERENCE").unwrap_or_default();
        let Ok(text) = std::fs::read_to_string(std::path::Path::new(&root).join("schedules.json")) else {
            eprintln!("skipped: schedules.json: LORAGRID_REFERENCE names no folder with it");
            return;
        };
        let reference: std::collections::BTreeMap<String, Vec<f64>> = serde_json::from_str(&text).unwrap();
        for (name, factors) in reference {
            let parts: Vec<&str> = name.split([' ', '=']).collect();
            let [word, _, warmup, _, steps] = parts.as_slice() else { panic!("{name}") };
            let form =
                if word.contains("litgpt") { ScheduleForm::LitGpt2023 } else { ScheduleForm::Transformers };
            let minimum = word.strip_prefix("cosine_min_").map_or(0.0, |text| text.parse().unwrap());
            let schedule = Schedule::parse(word.split(['-', '_']).next().unwrap()).unwrap();
            let shape = Shape { schedule, form, warmup: warmup.parse().unwrap(), minimum };
            for (step, expected) in factors.iter().enumerate() {
                let factor = shape.factor(step as u64, steps.parse().unwrap());
                assert!(
                    (factor - expected).abs() <= 1e-9,
                    "{name}, step {step}: {factor} against {expected}"
                );
            }
        }
    }
}
