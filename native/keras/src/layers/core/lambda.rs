//! `Lambda`: refused, since its function is Python's bytecode, or a name that only Python finds.

use crate::error::{Error, Result};
use crate::layer::Built;
use crate::scope::Scope;

pub(super) fn build(scope: &mut Scope<'_>) -> Result<Built> {
    Err(Error::Unsupported {
        place: scope.options.place().to_owned(),
        what: "a Python function in the model".to_owned(),
        supported: "the same computation in layers, or in keras.ops called on the tensors of a \
                    Functional model (such as keras.ops.mean(x, axis=1)); do what needs Python in \
                    the DataFrame beforehand"
            .to_owned(),
    })
}
