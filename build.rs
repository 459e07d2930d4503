//! Builds the engine's C++ shim and gives `loragrid-engine`, and only it, the shim and the run path of libtorch.
//!
//! `rustc-link-arg-bin` keeps the orchestrator free of libtorch; see ARCHITECTURE.md, "Two programs".

#[cfg(feature = "engine")]
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    #[cfg(feature = "engine")]
    engine();
}

#[cfg(feature = "engine")]
fn engine() {
    let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        return;
    };
    build_shim(Path::new(&lib));
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

/// Compiles the shim against the headers beside libtorch, as an archive that only the engine links.
#[cfg(feature = "engine")]
fn build_shim(lib: &Path) {
    let folder = Path::new("src/engine/shim");
    println!("cargo:rerun-if-changed={}", folder.display());
    let sources = ["adamw", "attention", "four_bit", "frozen", "group", "loss", "rows", "shim"];
    let include = lib.with_file_name("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        // Kernels run on libtorch's own threads, and no product and sum are rounded as one.
        .flag("-fopenmp")
        .flag("-ffp-contract=off")
        .flag("-mprefer-vector-width=512")
        // Warnings of the shim are errors; those of libtorch's headers are libtorch's.
        .warnings(true)
        .extra_warnings(true)
        .warnings_into_errors(true)
        // GCC 12 reports its own AVX-512 intrinsics (GCC bug 105593).
        .flag("-Wno-uninitialized")
        .flag("-Wno-maybe-uninitialized")
        .flag("-isystem")
        .flag(&include)
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include"))
        .files(sources.map(|name| folder.join(name).with_extension("cpp")))
        .cargo_metadata(false)
        .compile("loragrid_shim");
    let out = std::env::var("OUT_DIR").unwrap_or_default();
    link_engine(&format!("{out}/libloragrid_shim.a"));
    // What the archive needs beside what the Rust half already links.
    for name in ["torch_cpu", "c10", "stdc++"] {
        link_engine(&format!("-l{name}"));
    }
    // libtorch brings the OpenMP that it was built with; a second one would be a second set of threads.
    let own = lib.join("libgomp.so.1");
    link_engine(&if own.exists() { own.display().to_string() } else { "-lgomp".to_owned() });
}

#[cfg(feature = "engine")]
fn link_engine(argument: &str) {
    println!("cargo:rustc-link-arg-bin=loragrid-engine={argument}");
}
