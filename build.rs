//! Gives `loragrid-engine`, and only it, the run path of libtorch.
//!
//! `rustc-link-arg-bin` keeps the orchestrator free of libtorch; see ARCHITECTURE.md, "Two programs".

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=migrations");
    // What the engine's build script says of linking; empty without the engine.
    println!("cargo:rerun-if-env-changed=DEP_LORAGRID_ENGINE_LINK");
    let arguments = std::env::var("DEP_LORAGRID_ENGINE_LINK").unwrap_or_default();
    for argument in arguments.split(';').filter(|argument| !argument.is_empty()) {
        println!("cargo:rustc-link-arg-bin=loragrid-engine={argument}");
    }
}
