//! Builds the C++ shim, and says how what links the engine is linked: with the shim and the run path of libtorch.

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
    // The program, through the build script of the package that it is in.
    println!("cargo:link={}", arguments.join(";"));
}

/// What the linker is told beside what cargo tells it.
fn link_arguments(lib: &Path) -> Vec<String> {
    let mut arguments = vec!["-Wl,--disable-new-dtags".to_owned(), format!("-Wl,-rpath,{}", lib.display())];
    // The CUDA kernels register themselves when their library is loaded, and nothing in the program names a
    // symbol of theirs: without this the linker drops the library and the device seems to be absent.
    if lib.join("libtorch_cuda.so").exists() {
        arguments.extend(["-Wl,--no-as-needed", "-ltorch_cuda", "-Wl,--as-needed"].map(str::to_owned));
    }
    let out = std::env::var("OUT_DIR").unwrap_or_default();
    arguments.push(format!("{out}/libloragrid_shim.a"));
    // What the archive needs beside what the Rust half already links.
    arguments.extend(["-ltorch_cpu", "-lc10", "-lstdc++"].map(str::to_owned));
    // libtorch brings the OpenMP that it was built with; a second one would be a second set of threads.
    let bundled = lib.join("libgomp.so.1");
    arguments.push(if bundled.exists() { bundled.display().to_string() } else { "-lgomp".to_owned() });
    arguments
}

/// Compiles the shim against the headers beside libtorch, as an archive that only the engine links.
fn build_shim(lib: &Path) {
    let folder = Path::new("shim");
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
}
