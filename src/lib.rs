//! loragrid: a sweep of LoRA finetunings run as one program.
//!
//! The library is the floor and the orchestrator; the engine is a crate root of its own
//! (`src/engine/main.rs`) and sees the floor only. ARCHITECTURE.md has one sentence per room.

// The floor: everything without a tensor that both programs know.
pub mod data;
pub mod hub;
pub mod jinja;
pub mod job;
pub mod passes;
pub mod pretrained;
pub mod protocol;
pub mod python;
pub mod quant;
pub mod random;
pub mod schedule;
pub mod task;
pub mod trie;

// The orchestrator, from the sweep file to the terminal.
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
pub mod workspace;
