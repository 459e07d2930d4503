//! The `loragrid-engine` program: started by `loragrid` for each device slot.

fn main() -> std::process::ExitCode {
    engine::main()
}
