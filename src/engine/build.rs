//! Builds the C++ shim and links it and libtorch, with libtorch's run path, into what uses the engine.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        return;
    };
    build_shim(Path::new(&lib));
    let arguments = link_arguments(Path::new(&lib));
    for argument in &arguments {
        // This crate's own tests.
        println!("cargo:rustc-link-arg={argument}");
    }
    // The program, through its package's build script.
    println!("cargo:link={}", arguments.join(";"));
}

/// Linker arguments beyond cargo's own.
fn link_arguments(lib: &Path) -> Vec<String> {
    let mut arguments = vec!["-Wl,--disable-new-dtags".to_owned(), format!("-Wl,-rpath,{}", lib.display())];
    // The CUDA kernels register themselves when their library is loaded. No symbol of it is referenced, so without this
    // flag the linker drops it and CUDA is unavailable.
    if lib.join("libtorch_cuda.so").exists() {
        arguments.extend(["-Wl,--no-as-needed", "-ltorch_cuda", "-Wl,--as-needed"].map(str::to_owned));
    }
    let out = std::env::var("OUT_DIR").unwrap_or_default();
    arguments.push(format!("{out}/libloragrid_shim.a"));
    // What the archive needs beyond what the Rust code already links.
    arguments.extend(["-ltorch_cpu", "-lc10", "-lstdc++"].map(str::to_owned));
    // libtorch ships its own OpenMP; a second one would start a second thread pool.
    let bundled = lib.join("libgomp.so.1");
    arguments.push(if bundled.exists() { bundled.display().to_string() } else { "-lgomp".to_owned() });
    arguments
}

/// Compiles the shim against libtorch's headers as an archive that only the engine links.
fn build_shim(lib: &Path) {
    let folder = Path::new("shim");
    println!("cargo:rerun-if-changed={}", folder.display());
    let sources = [
        "adamw",
        "attention",
        "block",
        "four_bit",
        "frozen",
        "group",
        "group_tiles",
        "loss",
        "low_rank",
        "pages",
        "panels",
        "rows",
        "shim",
        "tile_attention",
    ];
    let include = lib.with_file_name("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        // Kernels run on libtorch's own threads; no fused multiply-add, which rounds once.
        .flag("-fopenmp")
        .flag("-ffp-contract=off")
        .flag("-mprefer-vector-width=512")
        // Warnings in the shim are errors; warnings in libtorch's headers are ignored.
        .warnings(true)
        .extra_warnings(true)
        .warnings_into_errors(true)
        // GCC 12 warns about its own AVX-512 intrinsics (GCC bug 105593).
        .flag("-Wno-uninitialized")
        .flag("-Wno-maybe-uninitialized")
        .flag("-isystem")
        .flag(&include)
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include"))
        .files(sources.map(|name| folder.join(name).with_extension("cpp")))
        .cargo_metadata(false)
        .compile("loragrid_shim");
}
