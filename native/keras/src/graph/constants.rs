//! Arrays among the arguments of calls: they become values of the graph, so that a pass finds
//! tensors and parses nothing.

use serde_json::Value as Json;
use tch::Tensor;

use super::ValueId;
use crate::arguments::{Args, Tree};
use crate::error::Result;
use crate::literals;

/// The arguments with the value that `add` makes of it for every array.
///
/// # Errors
/// An array is ragged, or of a dtype that there is not.
pub(super) fn lift(
    args: Args<ValueId>,
    add: &mut impl FnMut(Tensor) -> ValueId,
) -> Result<Args<ValueId>> {
    let list = args.list.into_iter().map(|tree| lift_tree(tree, add));
    let list = list.collect::<Result<_>>()?;
    let named = args.named.into_iter();
    let named = named.map(|(name, tree)| Ok((name, lift_tree(tree, add)?)));
    Ok(Args {
        list,
        named: named.collect::<Result<_>>()?,
    })
}

fn lift_tree(
    tree: Tree<ValueId>,
    add: &mut impl FnMut(Tensor) -> ValueId,
) -> Result<Tree<ValueId>> {
    match tree {
        Tree::Constant(Json::Array(items)) if items.iter().any(holds_array) => {
            let items = items
                .into_iter()
                .map(|item| lift_tree(Tree::Constant(item), add));
            Ok(Tree::List(items.collect::<Result<_>>()?))
        }
        Tree::Constant(value) => match literals::array(&value) {
            Some(array) => Ok(Tree::Leaf(add(array?))),
            None => Ok(Tree::Constant(value)),
        },
        Tree::List(items) => {
            let items = items.into_iter().map(|item| lift_tree(item, add));
            Ok(Tree::List(items.collect::<Result<_>>()?))
        }
        Tree::Map(entries) => {
            let entries = entries.into_iter();
            let entries = entries.map(|(key, item)| Ok((key, lift_tree(item, add)?)));
            Ok(Tree::Map(entries.collect::<Result<_>>()?))
        }
        leaf => Ok(leaf),
    }
}

fn holds_array(value: &Json) -> bool {
    match value {
        Json::Array(items) => items.iter().any(holds_array),
        other => literals::array(other).is_some(),
    }
}
