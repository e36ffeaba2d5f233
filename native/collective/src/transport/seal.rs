//! What protects the frames of one direction of a connection.
//!
//! | mode    | head  | payload   | tag, 16 bytes                                                |
//! |---------|-------|-----------|--------------------------------------------------------------|
//! | off     | plain | plain     | CRC-32C of head and payload, then zeros: finds damage only   |
//! | auth    | plain | plain     | AES-256-GCM's tag, the payload as its associated data        |
//! | encrypt | plain | encrypted | AES-256-GCM's tag, the head as its associated data           |
//!
//! The nonce is the number of frames sent before, which neither side tells the other: a frame that
//! was altered, repeated, left out or put in another place has a wrong tag. The key is that of one
//! direction of one connection and never used again, so no nonce repeats under it.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;

use crate::config::Security;
use crate::transport::frame::Head;

/// Size of a tag in bytes.
pub(crate) const TAG_BYTES: usize = 16;

/// The key of one direction of a connection could not be set up.
#[derive(Debug)]
pub(crate) struct BadKey;

/// Makes and checks the tags of one direction.
pub(crate) struct Seal {
    security: Security,
    key: LessSafeKey,
    frames: u64,
}

impl Seal {
    pub(crate) fn new(security: Security, key: &[u8; 32]) -> Result<Self, BadKey> {
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| BadKey)?;
        Ok(Self {
            security,
            key: LessSafeKey::new(key),
            frames: 0,
        })
    }

    /// The tag of the next frame, whose payload goes out as `sealed` if that is filled, else as it
    /// is. None if it cannot be made, which a segment's length rules out.
    pub(crate) fn close(
        &mut self,
        head: &Head,
        payload: &[u8],
        sealed: &mut Vec<u8>,
    ) -> Option<[u8; TAG_BYTES]> {
        sealed.clear();
        let nonce = self.nonce();
        let tag = match self.security {
            Security::Off => return Some(checksum(head, payload)),
            Security::Auth => self.code(nonce, head, payload)?,
            Security::Encrypt => {
                sealed.extend_from_slice(payload);
                let key = &self.key;
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(&head.bytes), sealed);
                tag.ok()?.as_ref().try_into().ok()?
            }
        };
        Some(tag)
    }

    /// Whether the next frame is as it was sent; `payload` is decrypted.
    pub(crate) fn open(
        &mut self,
        head: &Head,
        payload: &mut Vec<u8>,
        scratch: &mut Vec<u8>,
        tag: &[u8],
    ) -> bool {
        let nonce = self.nonce();
        match self.security {
            Security::Off => checksum(head, payload) == tag,
            Security::Auth => self
                .code(nonce, head, payload)
                .is_some_and(|code| verify_slices_are_equal(&code, tag).is_ok()),
            Security::Encrypt => {
                scratch.resize(payload.len(), 0);
                let aad = Aad::from(&head.bytes);
                let opened = self
                    .key
                    .open_separate_gather(nonce, aad, payload, tag, scratch);
                std::mem::swap(payload, scratch);
                opened.is_ok()
            }
        }
    }

    /// AES-256-GCM's tag over a copy of the head, whose ciphertext nobody needs, and the payload.
    fn code(&self, nonce: Nonce, head: &Head, payload: &[u8]) -> Option<[u8; TAG_BYTES]> {
        let mut head = head.bytes;
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(payload), &mut head);
        tag.ok()?.as_ref().try_into().ok()
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.frames.to_le_bytes());
        self.frames += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

fn checksum(head: &Head, payload: &[u8]) -> [u8; TAG_BYTES] {
    let mut tag = [0; TAG_BYTES];
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head.bytes), payload);
    tag[..4].copy_from_slice(&crc.to_le_bytes());
    tag
}
