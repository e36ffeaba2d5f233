//! The fault drill of the collective: real processes, real signals, real sockets. Each drill is tried
//! many times; every try must end, with the weights of the undisturbed run, every survivor naming who
//! failed, in time. Prints one JSON object per drill; `make drill` makes a table of them.
//!
//! ```text
//! drill [--short] [NAME ...]   runs the drills, or those whose names contain a NAME
//! drill rank                   plays one rank; the drills start it
//! ```
#![allow(clippy::print_stdout, reason = "a program that reports")]

mod drills;
mod hostile;
mod job;
mod namespaces;
mod proxy;
mod rank;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "rank") {
        return rank::play();
    }
    let short = arguments.iter().any(|argument| argument == "--short");
    let names: Vec<&String> = arguments.iter().filter(|a| !a.starts_with("--")).collect();
    let mut all_well = true;
    for drill in drills::all() {
        if names.is_empty() || names.iter().any(|name| drill.name.contains(*name)) {
            let report = drill.run(short);
            println!("{}", report.to_json());
            all_well &= report.is_well();
        }
    }
    ExitCode::from(u8::from(!all_well))
}
