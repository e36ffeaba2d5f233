//! Prints how many GPUs libtorch can compute on; if there are none, the reason, and fails.

use std::io::Write;
use std::process::ExitCode;

fn main() -> std::io::Result<ExitCode> {
    match flambeau_libtorch::gpus() {
        Ok(count) => {
            writeln!(std::io::stdout(), "{count}")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(reason) => {
            writeln!(std::io::stderr(), "{reason}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}
