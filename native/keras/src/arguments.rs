//! The arguments of a call, and trees of values: tensors in nested lists and dictionaries, with
//! constants between them, as Keras records them.

use serde_json::Value as Json;

/// A tree whose leaves are values or constants.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree<T> {
    /// One value.
    Leaf(T),
    /// A list or tuple.
    List(Vec<Tree<T>>),
    /// A dictionary, in Keras's order of keys.
    Map(Vec<(String, Tree<T>)>),
    /// An argument that is no tensor, as JSON; null for `None`.
    Constant(Json),
}

impl<T> Tree<T> {
    /// The values, in Keras's order of flattening (dictionaries by sorted key).
    pub(crate) fn leaves(&self) -> Vec<&T> {
        let mut leaves = Vec::new();
        self.collect(&mut leaves);
        leaves
    }

    fn collect<'a>(&'a self, leaves: &mut Vec<&'a T>) {
        match self {
            Self::Leaf(leaf) => leaves.push(leaf),
            Self::List(items) => items.iter().for_each(|item| item.collect(leaves)),
            Self::Map(entries) => {
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                entries.iter().for_each(|(_, item)| item.collect(leaves));
            }
            Self::Constant(_) => {}
        }
    }

    /// The same tree with every value replaced.
    ///
    /// # Errors
    /// The first that `change` gives.
    pub(crate) fn try_map<U, E>(
        &self,
        change: &mut impl FnMut(&T) -> Result<U, E>,
    ) -> Result<Tree<U>, E> {
        Ok(match self {
            Self::Leaf(leaf) => Tree::Leaf(change(leaf)?),
            Self::List(items) => {
                let items = items.iter().map(|item| item.try_map(change));
                Tree::List(items.collect::<Result<_, E>>()?)
            }
            Self::Map(entries) => {
                let entries = entries
                    .iter()
                    .map(|(key, item)| Ok((key.clone(), item.try_map(change)?)));
                Tree::Map(entries.collect::<Result<_, E>>()?)
            }
            Self::Constant(value) => Tree::Constant(value.clone()),
        })
    }

    /// The same tree with every value replaced.
    pub(crate) fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> Tree<U> {
        let mut change = |leaf: &T| Ok::<U, std::convert::Infallible>(change(leaf));
        match self.try_map(&mut change) {
            Ok(tree) => tree,
            Err(never) => match never {},
        }
    }

    /// The value, if the tree is one.
    pub(crate) fn leaf(&self) -> Option<&T> {
        match self {
            Self::Leaf(leaf) => Some(leaf),
            _ => None,
        }
    }

    /// The constant, if the tree is one.
    pub(crate) fn constant(&self) -> Option<&Json> {
        match self {
            Self::Constant(value) => Some(value),
            _ => None,
        }
    }
}

impl<T> From<T> for Tree<T> {
    fn from(leaf: T) -> Self {
        Self::Leaf(leaf)
    }
}

/// The arguments of one call of a layer or an operation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Args<T> {
    /// By position.
    pub(crate) list: Vec<Tree<T>>,
    /// By name.
    pub(crate) named: Vec<(String, Tree<T>)>,
}

impl<T> Args<T> {
    /// One positional value.
    pub(crate) fn one(value: T) -> Self {
        Self {
            list: vec![Tree::Leaf(value)],
            named: Vec::new(),
        }
    }

    /// The argument at `position`, or called `name`; `None` if it was not given.
    pub(crate) fn get(&self, position: usize, name: &str) -> Option<&Tree<T>> {
        self.list.get(position).or_else(|| self.by_name(name))
    }

    /// The argument called `name`.
    pub(crate) fn by_name(&self, name: &str) -> Option<&Tree<T>> {
        let entry = self.named.iter().find(|(key, _)| key == name);
        entry.map(|(_, tree)| tree)
    }

    /// The value at `position`, or called `name`; `None` if it was not given or is a constant.
    pub(crate) fn value(&self, position: usize, name: &str) -> Option<&T> {
        self.get(position, name).and_then(Tree::leaf)
    }

    /// The constant at `position`, or called `name`; `None` if it was not given or is `None`.
    pub(crate) fn constant(&self, position: usize, name: &str) -> Option<&Json> {
        self.get(position, name)
            .and_then(Tree::constant)
            .filter(|value| !value.is_null())
    }

    /// Demands that no argument but those called `names` was given by name.
    ///
    /// # Errors
    /// Names the first other, for the graph to name the layer.
    pub(crate) fn allow(&self, names: &[&str]) -> Result<(), String> {
        let mut given = self.named.iter().map(|(key, _)| key.as_str());
        match given.find(|key| !names.contains(key)) {
            Some(key) => Err(format!(
                "does not take the argument {key}; it takes {}",
                names.join(", ")
            )),
            None => Ok(()),
        }
    }

    /// The one value of the first argument.
    ///
    /// # Errors
    /// There are none or several, for the graph to name the layer.
    pub(crate) fn only(&self) -> Result<&T, String> {
        match self.inputs().as_slice() {
            [value] => Ok(value),
            values => Err(format!("takes one input, got {}", values.len())),
        }
    }

    /// All values of the first argument: the inputs proper of a layer.
    pub(crate) fn inputs(&self) -> Vec<&T> {
        self.list.first().map(Tree::leaves).unwrap_or_default()
    }

    /// All values, in Keras's order of flattening: by position, then by sorted name.
    pub(crate) fn leaves(&self) -> Vec<&T> {
        let mut named: Vec<_> = self.named.iter().collect();
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        let named = named.into_iter().map(|(_, tree)| tree);
        self.list
            .iter()
            .chain(named)
            .flat_map(Tree::leaves)
            .collect()
    }

    /// The same arguments with every value replaced.
    ///
    /// # Errors
    /// The first that `change` gives.
    pub(crate) fn try_map<U, E>(
        &self,
        mut change: impl FnMut(&T) -> Result<U, E>,
    ) -> Result<Args<U>, E> {
        let list = self.list.iter().map(|tree| tree.try_map(&mut change));
        let list = list.collect::<Result<_, E>>()?;
        let named = self
            .named
            .iter()
            .map(|(key, tree)| Ok((key.clone(), tree.try_map(&mut change)?)));
        let named = named.collect::<Result<_, E>>()?;
        Ok(Args { list, named })
    }

    /// The same arguments with every value replaced.
    pub(crate) fn map<U>(&self, mut change: impl FnMut(&T) -> U) -> Args<U> {
        let changed = self.try_map(|leaf| Ok::<U, std::convert::Infallible>(change(leaf)));
        match changed {
            Ok(args) => args,
            Err(never) => match never {},
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dictionaries_flatten_by_sorted_key() {
        let tree = Tree::Map(vec![
            ("b".to_owned(), Tree::Leaf(1)),
            (
                "a".to_owned(),
                Tree::List(vec![Tree::Leaf(2), Tree::Constant(Json::Null)]),
            ),
        ]);
        assert_eq!(tree.leaves(), [&2, &1]);
        assert_eq!(tree.map(|n| n * 10).leaves(), [&20, &10]);
    }

    #[test]
    fn an_argument_is_found_by_position_or_name() {
        let args = Args {
            list: vec![Tree::Leaf(7)],
            named: vec![
                ("mask".to_owned(), Tree::Leaf(8)),
                ("training".to_owned(), Tree::Constant(Json::Null)),
            ],
        };
        assert_eq!(args.only(), Ok(&7));
        assert_eq!(args.value(1, "mask"), Some(&8));
        assert_eq!(args.constant(2, "training"), None);
        assert_eq!(args.leaves(), [&7, &8]);
        assert!(
            Args::<i32> {
                list: vec![],
                named: vec![]
            }
            .only()
            .is_err()
        );
    }
}
