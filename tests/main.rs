//! End-to-end tests of the programs: one integration binary with a module for each subject.
#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]

mod architecture;
#[cfg(all(feature = "engine", feature = "fake-engine"))]
mod artifacts;
#[cfg(feature = "fake-engine")]
mod boards;
#[cfg(feature = "fake-engine")]
mod control;
#[cfg(feature = "fake-engine")]
mod database;
#[cfg(feature = "fake-engine")]
mod devices;
#[cfg(feature = "fake-engine")]
mod disk;
#[cfg(feature = "engine")]
mod engine;
mod errors;
#[cfg(feature = "fake-engine")]
mod evaluation;
mod fuzz;
#[cfg(feature = "engine")]
mod generation;
#[cfg(feature = "fake-engine")]
mod hub;
#[cfg(feature = "fake-engine")]
mod json;
#[cfg(feature = "fake-engine")]
mod keep;
#[cfg(feature = "fake-engine")]
mod lab;
#[cfg(feature = "fake-engine")]
mod launcher;
#[cfg(all(feature = "engine", feature = "fake-engine"))]
mod night;
#[cfg(feature = "fake-engine")]
mod packs;
mod planning;
#[cfg(feature = "fake-engine")]
mod readme;
#[cfg(feature = "fake-engine")]
mod recovery;
#[cfg(feature = "fake-engine")]
mod results;
#[cfg(feature = "fake-engine")]
mod runs;
#[cfg(feature = "fake-engine")]
mod server;
#[cfg(feature = "fake-engine")]
mod sharing;
#[cfg(feature = "fake-engine")]
mod stories;
mod support;
#[cfg(feature = "fake-engine")]
mod terminal;
#[cfg(feature = "fake-engine")]
mod web;
#[cfg(feature = "fake-engine")]
mod winner;
#[cfg(feature = "fake-engine")]
mod workspace;
