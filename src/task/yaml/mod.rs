//! lm_eval's YAML dialect: values with `!function` tags, duplicate keys, includes.

mod include;
mod node;

pub(super) use include::load;
pub(super) use node::{Function, Node};
