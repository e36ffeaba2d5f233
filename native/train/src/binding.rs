//! Which columns feed which input of the model, and which are the labels of which output.

use std::collections::BTreeMap;

use crate::columns::Wanted;
use crate::config::Columns;
use crate::error::DataError;

/// The columns of each input and of the labels of each output, in the model's order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) inputs: Vec<Vec<String>>,
    pub(crate) labels: Vec<Vec<String>>,
}

/// Matches columns with the model: by name where a mapping is given, else in order.
///
/// # Errors
/// [`DataError::Binding`].
pub(crate) fn bind(columns: &Columns, wanted: &Wanted) -> Result<Bound, DataError> {
    let inputs: Vec<&str> = wanted
        .inputs
        .iter()
        .map(|input| input.name.as_str())
        .collect();
    let learning = wanted
        .outputs
        .iter()
        .filter(|output| output.label.is_some());
    let outputs: Vec<&str> = learning.map(|output| output.name.as_str()).collect();
    let words = Words {
        side: "input",
        columns: "featureCols",
        mapping: "inputMapping",
    };
    let inputs = match_up(&words, &columns.features, &columns.inputs, &inputs)?;
    let words = Words {
        side: "output",
        columns: "labelCols",
        mapping: "labelMapping",
    };
    let found = match_up(&words, &columns.labels, &columns.outputs, &outputs)?;
    let mut found = found.into_iter();
    let labels = wanted.outputs.iter().map(|output| match output.label {
        Some(_) => found.next().unwrap_or_default(),
        None => Vec::new(),
    });
    Ok(Bound {
        inputs,
        labels: labels.collect(),
    })
}

/// What the two sides are called.
struct Words {
    side: &'static str,
    columns: &'static str,
    mapping: &'static str,
}

fn match_up(
    words: &Words,
    columns: &[String],
    mapping: &BTreeMap<String, Vec<String>>,
    names: &[&str],
) -> Result<Vec<Vec<String>>, DataError> {
    let Words {
        side,
        columns: param,
        mapping: mapping_param,
    } = words;
    let wrong = |reason: String| DataError::Binding { reason };
    let listed = || names.join(", ");
    if !mapping.is_empty() {
        let unknown = mapping.keys().find(|name| !names.contains(&name.as_str()));
        if let Some(name) = unknown {
            let listed = listed();
            return Err(wrong(format!(
                "{mapping_param} names '{name}', which is no {side} of the model; it has [{listed}]"
            )));
        }
        let found = names.iter().map(|name| {
            let columns = mapping.get(*name).filter(|columns| !columns.is_empty());
            columns.cloned().ok_or_else(|| {
                wrong(format!(
                    "{mapping_param} gives no column for the model's {side} '{name}'"
                ))
            })
        });
        return found.collect();
    }
    match names {
        [] => Ok(Vec::new()),
        [_] if !columns.is_empty() => Ok(vec![columns.to_vec()]),
        names if names.len() == columns.len() => {
            Ok(columns.iter().map(|column| vec![column.clone()]).collect())
        }
        names => {
            let (wanted, given, listed) = (names.len(), columns.len(), listed());
            Err(wrong(format!(
                "the model has {wanted} {side}s [{listed}], but {param} names {given} columns: \
                 name one column for each in that order, or set {mapping_param}"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        Words {
            side: "input",
            columns: "featureCols",
            mapping: "inputMapping",
        }
    }

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn columns_go_to_inputs_in_order_or_by_name() {
        let none = BTreeMap::new();
        let all = match_up(&words(), &strings(&["a", "b"]), &none, &["x"]).unwrap();
        assert_eq!(all, [["a", "b"]]);
        let each = match_up(&words(), &strings(&["a", "b"]), &none, &["x", "y"]).unwrap();
        assert_eq!(each, [["a"], ["b"]]);
        let mapping = BTreeMap::from([
            ("y".to_owned(), strings(&["a"])),
            ("x".to_owned(), strings(&["b", "c"])),
        ]);
        let named = match_up(&words(), &[], &mapping, &["x", "y"]).unwrap();
        assert_eq!(named, [strings(&["b", "c"]), strings(&["a"])]);
    }

    #[test]
    fn what_does_not_match_is_named() {
        let message = |columns: &[&str], mapping: &[(&str, &[&str])]| {
            let mapping = mapping.iter();
            let mapping = mapping
                .map(|(k, v)| ((*k).to_owned(), strings(v)))
                .collect();
            match_up(&words(), &strings(columns), &mapping, &["x", "y"])
                .unwrap_err()
                .to_string()
        };
        assert!(message(&["a"], &[]).contains("2 inputs [x, y], but featureCols names 1"));
        assert!(message(&[], &[("z", &["a"])]).contains("'z', which is no input"));
        assert!(message(&[], &[("x", &["a"])]).contains("no column for the model's input 'y'"));
    }
}
