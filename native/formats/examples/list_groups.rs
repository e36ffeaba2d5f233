//! `list_groups PARENT CLASS...` prints the group of each layer class, one per line.

use std::io::Write;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (parent, classes) = arguments.split_first().unwrap_or((&"", &[]));
    let mut output = std::io::stdout().lock();
    for group in flambeau_formats::group_names(parent, classes) {
        writeln!(output, "{group}")?;
    }
    Ok(())
}
