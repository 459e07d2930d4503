//! The `loragrid` program: arguments in, one exit code out.

fn main() -> std::process::ExitCode {
    loragrid::cli::main()
}
