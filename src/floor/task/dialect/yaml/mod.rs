//! lm_eval's YAML dialect: values with `!function` tags, duplicate keys, includes.

mod include;
mod node;

pub(in crate::task) use include::load;
pub(in crate::task) use node::{Function, Node};
