//! The job secret: 32 random bytes that every rank of a job holds and nobody else.

use std::fmt;
use std::hint::black_box;

use sha2::{Digest, Sha256};

use crate::config::Config;

/// A 32-byte secret. `Debug` does not show it and dropping it wipes it.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Takes the secret over.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The pre-shared key of one stage of one run. Its attempts share it, so that an older one can be
    /// told with proof that it has been replaced; what they say under it carries the attempt.
    pub(crate) fn session_key(&self, config: &Config) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"flambeau collective key 2");
        hash.update(self.0);
        hash.update(config.stage_id.to_le_bytes());
        hash.update(config.run_id.as_bytes());
        Self(hash.finalize().into())
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the compiler from leaving the wipe out as a store that nobody reads.
        black_box(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_does_not_show_the_secret() {
        assert_eq!(format!("{:?}", Secret::new([7; 32])), "Secret(hidden)");
    }
}
