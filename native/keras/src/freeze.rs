//! Freezing layers by name in a model's config, as `layer.trainable = False` does.

use serde_json::Value as Json;

use crate::error::{Error, Result};

/// Sets `trainable` to false on every layer called one of `names`, also in nested models.
///
/// # Errors
/// There is no layer of that name.
pub(crate) fn freeze(document: &mut Json, names: &[String]) -> Result<()> {
    for name in names {
        let mut known = Vec::new();
        if !freeze_below(document, name, &mut known) {
            return Err(Error::InvalidConfig {
                place: "model".to_owned(),
                reason: format!(
                    "there is no layer \"{name}\" to freeze; it has {}",
                    known.join(", ")
                ),
            });
        }
    }
    Ok(())
}

fn freeze_below(model: &mut Json, wanted: &str, known: &mut Vec<String>) -> bool {
    let layers = model
        .pointer_mut("/config/layers")
        .and_then(Json::as_array_mut);
    let mut found = false;
    for layer in layers.into_iter().flatten() {
        let name = layer.pointer("/config/name").and_then(Json::as_str);
        let name = name.unwrap_or_default().to_owned();
        if name == wanted
            && let Some(config) = layer.get_mut("config").and_then(Json::as_object_mut)
        {
            config.insert("trainable".to_owned(), false.into());
            found = true;
        }
        known.push(format!("\"{name}\""));
        found |= freeze_below(layer, wanted, known);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn layers_of_nested_models_are_found_and_others_named() {
        let mut model = json!({"config": {"layers": [
            {"config": {"name": "a"}},
            {"config": {"name": "inner", "layers": [{"config": {"name": "b"}}]}},
        ]}});
        freeze(&mut model, &["b".to_owned()]).unwrap();
        let inner = &model["config"]["layers"][1]["config"]["layers"][0];
        assert_eq!(inner["config"]["trainable"], false);
        let error = freeze(&mut model, &["c".to_owned()])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("\"c\"") && error.contains("\"a\", \"inner\", \"b\""),
            "{error}"
        );
    }
}
