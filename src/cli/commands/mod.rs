//! One file per command.

pub(super) mod keys;
pub(super) mod plan;
pub(super) mod run;
pub(super) mod status;
pub(super) mod top;
