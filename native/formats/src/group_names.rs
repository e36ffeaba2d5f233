//! The rule by which Keras names the group of each layer in a weights file.

use std::collections::HashMap;

/// The groups in which Keras stores layers, given their class names in the order of
/// `model.layers`: the class in snake case, with `_1`, `_2`, ... from its second occurrence on.
///
/// `parent` is `""` for a model, or the group of the layer that is itself a model. The
/// `InputLayer`s of a Functional model count; that of a Sequential does not belong in the list.
/// (`_save_container_state` of `saving_lib.py`.)
pub fn group_names(parent: &str, class_names: &[&str]) -> Vec<String> {
    if parent.is_empty() {
        return list_group_names("layers", class_names);
    }
    list_group_names(&format!("{parent}/layers"), class_names)
}

/// The groups of the layers in a list whose own group is `list`, such as `rnn/cell/cells`.
pub fn list_group_names(list: &str, class_names: &[&str]) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut unique = |class: &&str| {
        let name = snake_case(class);
        let count = seen.entry(name.clone()).or_insert(0);
        *count += 1;
        match *count {
            1 => format!("{list}/{name}"),
            count => format!("{list}/{name}_{}", count - 1),
        }
    };
    class_names.iter().map(&mut unique).collect()
}

/// Keras's `to_snake_case`: `PReLU` is `p_re_lu`, `Conv2DTranspose` is `conv2d_transpose`.
fn snake_case(class: &str) -> String {
    let letters: Vec<char> = class
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    let mut name = String::with_capacity(letters.len() + 4);
    for (at, &letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| letters.get(at));
        let after = letters.get(at + 1);
        let begins_word = after.is_some_and(char::is_ascii_lowercase);
        let ends_word = before.is_some_and(char::is_ascii_lowercase);
        if letter.is_ascii_uppercase() && before.is_some() && (begins_word || ends_word) {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named_by_class_and_position() {
        let classes = ["InputLayer", "Conv2D", "PReLU", "Conv2D", "LSTM", "Conv2D"];
        assert_eq!(
            group_names("", &classes),
            [
                "input_layer",
                "conv2d",
                "p_re_lu",
                "conv2d_1",
                "lstm",
                "conv2d_2"
            ]
            .map(|name| format!("layers/{name}"))
        );
        let nested = group_names("layers/sequential", &["Dense"]);
        assert_eq!(nested, ["layers/sequential/layers/dense"]);
    }

    /// Right-hand sides printed by `keras.src.utils.naming.to_snake_case` of Keras 3.15.1.
    #[test]
    fn class_names_turn_to_snake_case_as_in_keras() {
        let pairs = [
            ("Conv2DTranspose", "conv2d_transpose"),
            ("PReLU", "p_re_lu"),
            ("LSTM", "lstm"),
            ("GlobalAveragePooling2D", "global_average_pooling2d"),
            ("ZeroPadding2D", "zero_padding2d"),
            ("GRUCell", "gru_cell"),
            ("My_Layer", "my__layer"),
            ("BatchNormalization", "batch_normalization"),
            ("MaxPooling1D", "max_pooling1d"),
            ("HTTPServer2Go", "http_server2_go"),
            ("my.Layer-X", "my_layer_x"),
            ("Dense", "dense"),
        ];
        for (class, expected) in pairs {
            assert_eq!(snake_case(class), expected);
        }
    }
}
