//! One file per command.

pub(super) mod completions;
pub(super) mod data;
pub(super) mod init;
pub(super) mod keys;
pub(super) mod man;
pub(super) mod plan;
pub(super) mod run;
pub(super) mod show;
pub(super) mod status;
pub(super) mod top;
