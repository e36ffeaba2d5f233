//! Who exchanges what with whom: index arithmetic without any input or output.

pub(crate) mod chunks;
pub(crate) mod groups;
pub(crate) mod partners;
