//! Gives `loragrid-engine`, and only it, the run path of libtorch.
//!
//! `rustc-link-arg-bin` keeps the orchestrator free of libtorch; see ARCHITECTURE.md, "Two programs".

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    if std::env::var_os("CARGO_FEATURE_ENGINE").is_none() {
        return;
    }
    let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        return;
    };
    link_engine("-Wl,--disable-new-dtags");
    link_engine(&format!("-Wl,-rpath,{lib}"));
    // The CUDA kernels register themselves when their library is loaded, and nothing in the program names a
    // symbol of theirs: without this the linker drops the library and the device seems to be absent.
    if Path::new(&lib).join("libtorch_cuda.so").exists() {
        link_engine("-Wl,--no-as-needed");
        link_engine("-ltorch_cuda");
        link_engine("-Wl,--as-needed");
    }
}

fn link_engine(argument: &str) {
    println!("cargo:rustc-link-arg-bin=loragrid-engine={argument}");
}
