//! What protects the frames of one direction of a connection.
//!
//! | mode    | head  | payload   | tag, 16 bytes                                          |
//! |---------|-------|-----------|--------------------------------------------------------|
//! | off     | plain | plain     | CRC-32C of head and payload, then zeros: finds damage only |
//! | auth    | plain | plain     | AEGIS-128X2's MAC of head and payload                  |
//! | encrypt | plain | encrypted | AEGIS-128X2's tag, the head as its associated data     |
//!
//! AEGIS (draft-irtf-cfrg-aegis-aead) makes each step of a processor's AES instructions count and is
//! three to seven times as fast as AES-GCM, so that a tag costs less than the kernel's copies.
//!
//! The nonce is the number of frames sent before, which neither side tells the other: a frame that
//! was altered, repeated, left out or put in another place has a wrong tag. The key is that of one
//! direction of one connection and never used again, so no nonce repeats under it.

use std::fmt;
use std::hint::black_box;

use aegis::aegis128x2::{Aegis128X2, Aegis128X2Mac};

use crate::config::Security;
use crate::transport::frame::Head;

/// Size of a tag in bytes.
pub(crate) const TAG_BYTES: usize = 16;
/// Size of a key in bytes.
pub(crate) const KEY_BYTES: usize = 16;

/// Makes and checks the tags of one direction. `Debug` does not show the key, dropping it wipes it.
pub(crate) struct Seal {
    security: Security,
    key: [u8; KEY_BYTES],
    frames: u64,
}

impl Seal {
    pub(crate) fn new(security: Security, key: [u8; KEY_BYTES]) -> Self {
        Self {
            security,
            key,
            frames: 0,
        }
    }

    /// The tag of the next frame, whose payload goes out as `sealed` if that is filled, else as it
    /// is.
    pub(crate) fn close(
        &mut self,
        head: &Head,
        payload: &[u8],
        sealed: &mut Vec<u8>,
    ) -> [u8; TAG_BYTES] {
        sealed.clear();
        let nonce = self.nonce();
        match self.security {
            Security::Off => checksum(head, payload),
            Security::Auth => self.mac(&nonce, head, payload).finalize(),
            Security::Encrypt => {
                sealed.extend_from_slice(payload);
                Aegis128X2::new(&self.key, &nonce).encrypt_in_place(sealed, &head.bytes)
            }
        }
    }

    /// Whether the next frame is as it was sent; `payload` is decrypted.
    pub(crate) fn open(&mut self, head: &Head, payload: &mut [u8], tag: &[u8; TAG_BYTES]) -> bool {
        let nonce = self.nonce();
        match self.security {
            Security::Off => checksum(head, payload) == *tag,
            Security::Auth => self.mac(&nonce, head, payload).verify(tag).is_ok(),
            Security::Encrypt => Aegis128X2::new(&self.key, &nonce)
                .decrypt_in_place(payload, tag, &head.bytes)
                .is_ok(),
        }
    }

    fn mac(&self, nonce: &Nonce, head: &Head, payload: &[u8]) -> Aegis128X2Mac<TAG_BYTES> {
        let mut mac = Aegis128X2Mac::new_with_nonce(&self.key, nonce);
        mac.update(&head.bytes);
        mac.update(payload);
        mac
    }

    fn nonce(&mut self) -> Nonce {
        let nonce = u128::from(self.frames).to_le_bytes();
        self.frames += 1;
        nonce
    }
}

type Nonce = [u8; 16];

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal")
            .field("security", &self.security)
            .field("frames", &self.frames)
            .finish_non_exhaustive()
    }
}

impl Drop for Seal {
    fn drop(&mut self) {
        self.key.fill(0);
        // Keeps the compiler from leaving the wipe out as a store that nobody reads.
        black_box(&self.key);
    }
}

fn checksum(head: &Head, payload: &[u8]) -> [u8; TAG_BYTES] {
    let mut tag = [0; TAG_BYTES];
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head.bytes), payload);
    tag[..4].copy_from_slice(&crc.to_le_bytes());
    tag
}
