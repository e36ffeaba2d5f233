//! Prints the classes of layers and operations that a model may have, as JSON.

use std::io::Write;

use flambeau_keras::registry::classes;
use serde_json::json;

fn main() -> std::io::Result<()> {
    let all = json!({"layers": classes("layers"), "ops": classes("ops")});
    writeln!(std::io::stdout(), "{all}")
}
