//! One file per command.

pub(super) mod chat;
pub(super) mod completions;
pub(super) mod data;
pub(super) mod doctor;
pub(super) mod eval;
pub(super) mod explain;
pub(super) mod gc;
pub(super) mod generate;
pub(super) mod hands;
pub(super) mod history;
pub(super) mod import;
pub(super) mod init;
pub(super) mod keys;
pub(super) mod logs;
pub(super) mod man;
pub(super) mod merge;
pub(super) mod model;
pub(super) mod plan;
pub(super) mod run;
pub(super) mod show;
pub(super) mod status;
pub(super) mod submit;
pub(super) mod task;
pub(super) mod top;
pub(super) mod verify;
pub(super) mod work;
