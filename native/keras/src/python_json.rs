//! JSON as Python writes it: with the tokens `NaN`, `Infinity` and `-Infinity`, which JSON does not
//! have. Each becomes a marked string, and a token again when the document is written.

use serde_json::Value;

use crate::error::{Error, Result};

/// Begins the strings that stand for tokens; a character of Unicode's private area.
const MARK: char = '\u{e000}';

const TOKENS: [(&str, f64); 3] = [
    ("-Infinity", f64::NEG_INFINITY),
    ("Infinity", f64::INFINITY),
    ("NaN", f64::NAN),
];

/// Parses a document.
///
/// # Errors
/// It is not JSON, those tokens apart.
pub(crate) fn parse(text: &str) -> Result<Value> {
    if TOKENS.iter().any(|(token, _)| text.contains(token)) {
        return serde_json::from_str(&marked(text)).map_err(Error::NotJson);
    }
    serde_json::from_str(text).map_err(Error::NotJson)
}

/// Writes a document as Python reads it.
pub(crate) fn print(document: &Value) -> String {
    let mut text = document.to_string();
    if text.contains(MARK) {
        for (token, _) in TOKENS {
            text = text.replace(&format!("\"{MARK}{token}\""), token);
        }
    }
    text
}

/// The number that a marked string stands for.
pub(crate) fn constant(value: &Value) -> Option<f64> {
    let name = value.as_str()?.strip_prefix(MARK)?;
    let found = TOKENS.iter().find(|(token, _)| *token == name);
    found.map(|(_, number)| *number)
}

/// The text with every token outside of strings as a marked string.
fn marked(text: &str) -> String {
    let mut result = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let token = TOKENS.iter().find(|(token, _)| rest.starts_with(token));
        let len = if next == '"' {
            let len = string_length(rest);
            result.push_str(&rest[..len]);
            len
        } else if let Some((token, _)) = token {
            result.push_str(&format!("\"{MARK}{token}\""));
            token.len()
        } else {
            result.push(next);
            next.len_utf8()
        };
        rest = &rest[len..];
    }
    result
}

/// The length in bytes of the string literal that `text` begins with, quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_and_strings_stay() {
        let text = r#"{"a":[-Infinity,Infinity,1.5],"b":"NaN \" Infinity","c":NaN}"#;
        let value = parse(text).unwrap();
        assert_eq!(constant(&value["a"][0]), Some(f64::NEG_INFINITY));
        assert_eq!(constant(&value["a"][1]), Some(f64::INFINITY));
        assert!(constant(&value["c"]).unwrap().is_nan());
        assert_eq!(value["b"], "NaN \" Infinity");
        assert_eq!(print(&value), text);
    }

    #[test]
    fn other_documents_are_not_touched() {
        assert_eq!(parse("[1, \"x\"]").unwrap().to_string(), "[1,\"x\"]");
        assert!(parse("{Infinit}").is_err());
        assert!(parse("{\"NaN").is_err());
    }
}
