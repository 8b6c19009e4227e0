//! The binary: parse, call, exit code.

fn main() -> std::process::ExitCode {
    formidlingd::cli::main()
}
