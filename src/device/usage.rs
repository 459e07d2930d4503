//! What engines and GPUs use now.

use std::time::Instant;

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;

use super::cards::{CardId, Inventory};
use crate::job::Bytes;

/// What a slot uses.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SlotUse {
    /// The slot's device.
    pub device: String,
    /// The part of its cores, or of the GPU's time, from 0 to 1; none at the first look.
    pub used: Option<f64>,
    /// Memory of the engine, or in use on the GPU.
    pub memory: Bytes,
    /// Memory that there is.
    pub total_memory: Bytes,
    /// The GPU's temperature in °C.
    pub temperature: Option<f64>,
    /// The GPU's power in W.
    pub power: Option<f64>,
}

/// Measures a process by the processor time between two looks.
#[derive(Debug, Default)]
pub struct ProcessMeter {
    last: Option<(u32, Instant, f64)>,
}

impl ProcessMeter {
    /// The cores that a process used since the last look, and its resident memory; none if it is gone.
    pub fn look(&mut self, pid: u32) -> Option<(Option<f64>, Bytes)> {
        let (seconds, now) = (processor_seconds(pid)?, Instant::now());
        let cores = self.last.filter(|(known, ..)| *known == pid).and_then(|(_, at, before)| {
            let elapsed = now.saturating_duration_since(at).as_secs_f64();
            (elapsed > 0.0).then(|| ((seconds - before) / elapsed).max(0.0))
        });
        self.last = Some((pid, now, seconds));
        Some((cores, resident(pid)?))
    }
}

/// Processor time of a process, in seconds: fields 14 and 15 of `/proc/PID/stat`.
fn processor_seconds(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name may have spaces and parentheses.
    let (_, rest) = text.rsplit_once(')')?;
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().ok())
        .sum::<Option<u64>>()?;
    let a_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    Some(ticks as f64 / a_second as f64)
}

fn resident(pid: u32) -> Option<Bytes> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(Bytes(line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? * 1024))
}

impl Inventory {
    /// What the GPUs of a slot use together; none without a driver that says it.
    pub fn use_of(&self, cards: &[CardId], device: &str) -> Option<SlotUse> {
        let Self::Driver(driver) = self else { return None };
        let uses: Option<Vec<SlotUse>> = cards.iter().map(|card| driver_use(driver, card, device)).collect();
        together(uses?)
    }
}

/// The use of several GPUs: their memory and power together, their mean utilization, and the temperature of the hottest.
fn together(uses: Vec<SlotUse>) -> Option<SlotUse> {
    let count = uses.len() as f64;
    uses.into_iter()
        .reduce(|all, one| SlotUse {
            used: all.used.zip(one.used).map(|(all, one)| all + one),
            memory: Bytes(all.memory.0 + one.memory.0),
            total_memory: Bytes(all.total_memory.0 + one.total_memory.0),
            temperature: all.temperature.zip(one.temperature).map(|(all, one)| all.max(one)),
            power: all.power.zip(one.power).map(|(all, one)| all + one),
            device: all.device,
        })
        .map(|all| SlotUse { used: all.used.map(|used| used / count), ..all })
}

fn driver_use(driver: &Nvml, card: &CardId, device: &str) -> Option<SlotUse> {
    let found = driver.device_by_uuid(card.0.as_str()).ok()?;
    let memory = found.memory_info().ok()?;
    Some(SlotUse {
        device: device.to_owned(),
        used: found.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 100.0),
        memory: Bytes(memory.used),
        total_memory: Bytes(memory.total),
        temperature: found.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
        power: found.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1000.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_uses_a_core_and_one_that_is_gone_nothing() {
        let mut meter = ProcessMeter::default();
        let pid = std::process::id();
        let (first, memory) = meter.look(pid).unwrap();
        assert!(first.is_none() && memory.0 > 1 << 20);
        let (start, before) = (Instant::now(), processor_seconds(pid).unwrap());
        // Until the kernel has counted some of it.
        while processor_seconds(pid).unwrap() - before < 0.05 && start.elapsed().as_secs() < 20 {
            std::hint::black_box((0..10_000).sum::<u64>());
        }
        let (used, _) = meter.look(pid).unwrap();
        assert!(used.unwrap() > 0.0, "{used:?}");
        assert!(ProcessMeter::default().look(u32::MAX - 1).is_none());
    }
}
