//! The keys of data connections, and other random bytes.
//!
//! Whoever makes a connection draws 32 random bytes and sends them as its first word, which the
//! handshake's own keys encrypt: no later loss of the job's secret betrays them. With the secret
//! of the attempt they make one key for each direction.

use std::fmt;
use std::hint::black_box;
use std::io;

use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::config::Security;
use crate::secret::Secret;
use crate::transport::seal::{KEY_BYTES, Seal};

/// What the keys of one connection derive from. `Debug` does not show it, dropping it wipes it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ConnectionKey([u8; 32]);

impl ConnectionKey {
    pub(crate) fn random() -> io::Result<Self> {
        random().map(Self)
    }

    /// What protects the frames to the peer, and those from it, at the end that made the connection
    /// if `dialled`, else at the other.
    pub(crate) fn seals(
        &self,
        session: &Secret,
        security: Security,
        dialled: bool,
    ) -> io::Result<(Seal, Seal)> {
        let key = Hkdf::<Sha256>::new(Some(session.bytes()), &self.0);
        let seal = |direction: &[u8]| {
            let info = [b"flambeau data 2 ".as_slice(), direction];
            let mut derived = [0; KEY_BYTES];
            // HKDF refuses lengths that are far beyond that of a key.
            key.expand_multi_info(&info, &mut derived)
                .map_err(|_| io::Error::other("no key for a data connection"))?;
            Ok::<_, io::Error>(Seal::new(security, derived))
        };
        let (out, back) = (seal(b"out")?, seal(b"back")?);
        Ok(if dialled { (out, back) } else { (back, out) })
    }
}

impl fmt::Debug for ConnectionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionKey(hidden)")
    }
}

impl Drop for ConnectionKey {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the compiler from leaving the wipe out as a store that nobody reads.
        black_box(&self.0);
    }
}

/// A number nobody can guess.
pub(crate) fn random_token() -> io::Result<u64> {
    random().map(u64::from_le_bytes)
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}
