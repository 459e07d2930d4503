//! loragrid: a sweep of LoRA finetunings run as one program.
//!
//! This crate is the orchestrator, from the sweep file to the terminal. It stands on the floor, as the engine does.
//! ARCHITECTURE.md has one sentence per room.

// The floor's rooms under their own names.
pub use floor::{
    data, hub, jinja, job, passes, pretrained, protocol, python, quant, random, schedule, task, trie,
};

pub mod artifacts;
pub mod cli;
pub mod device;
pub mod engine_process;
pub mod orders;
pub mod plan;
pub mod queue;
pub mod report;
pub mod runner;
pub mod scheduler;
pub mod stats;
pub mod store;
pub mod sweep_file;
pub mod track;
pub mod web;
pub mod workspace;
