//! The keys of data connections, and other random bytes.
//!
//! Whoever makes a connection draws 32 random bytes and sends them as its first word, which the
//! handshake's own keys encrypt: no later loss of the job's secret betrays them. With the secret
//! of the attempt they make one key for each direction.

use std::fmt;
use std::hint::black_box;
use std::io;

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::config::Security;
use crate::secret::Secret;
use crate::transport::seal::Seal;

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
        let key = Salt::new(HKDF_SHA256, session.bytes()).extract(&self.0);
        let seal = |direction: &[u8]| {
            let info = [b"flambeau data 1 ".as_slice(), direction];
            let mut derived = [0; 32];
            // The length of the algorithm's own hash is the 32 bytes of a key.
            key.expand(&info, HKDF_SHA256)
                .and_then(|material| material.fill(&mut derived))
                .ok()
                .and_then(|()| Seal::new(security, &derived).ok())
                .ok_or_else(|| io::Error::other("no key for a data connection"))
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
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(bytes)
}
