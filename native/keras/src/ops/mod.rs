//! The operations of `keras.ops` that functional models record, on equal terms with layers. A new
//! operation is one file, or one line beside its like, and one line in the list of its family.

use crate::registry::Builder;

/// The classes of one family of operations.
type Family = &'static [(&'static str, Builder)];

/// Every operation that there is.
pub(crate) const FAMILIES: &[Family] = &[];
