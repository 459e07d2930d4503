//! Shared by both of loragrid's programs, without tensors: jobs, model headers, data, tasks, passes and the protocol.

mod cores;
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
