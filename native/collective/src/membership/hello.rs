//! The plaintext greeting that opens every connection: 128 bytes, so a stranger is known at once.
//!
//! ```text
//! 0   "FLAMBEAU"            24  stage attempt, u64
//! 8   wire version, u16     32  SHA-256 of run id and stage id
//! 10  purpose, u8; 0, u8    64  release of the sender, ASCII padded with zeros (32 bytes)
//! 12  from rank, u32        96  zeros (32 bytes)
//! 16  to rank, u32
//! 20  world size, u32       integers are little-endian
//! ```
//! It proves nothing by itself, so nothing but the next step follows from it: both hellos are the
//! prologue of the Noise handshake, which proves every byte of them or fails. None of the bytes is
//! a secret, so comparing them need not take constant time; Noise's own checks do.

/// Size of a hello in bytes.
pub(crate) const HELLO_BYTES: usize = 128;

const MAGIC: &[u8; 8] = b"FLAMBEAU";
const WIRE_VERSION: u16 = 2;
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Control = 1,
    Data = 2,
    /// Requests of the one that has made it, and their answers.
    Call = 3,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) purpose: Purpose,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) world_size: usize,
    pub(crate) stage_attempt: u64,
    pub(crate) job: [u8; 32],
}

/// Why a received hello is not the one wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// Not Flambeau at all.
    NotFlambeau,
    /// Another release, whose hello may mean other things.
    Release(String),
    /// Another run or stage.
    OtherJob,
    /// The right job, but not the rank or the purpose asked for.
    OtherRank,
}

impl Hello {
    pub(crate) fn encode(&self) -> [u8; HELLO_BYTES] {
        // Ranks fit: a world is bounded by the tasks of a stage, which Spark counts in i32.
        let rank = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = [0; HELLO_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&WIRE_VERSION.to_le_bytes());
        bytes[10] = self.purpose as u8;
        bytes[12..16].copy_from_slice(&rank(self.from));
        bytes[16..20].copy_from_slice(&rank(self.to));
        bytes[20..24].copy_from_slice(&rank(self.world_size));
        bytes[24..32].copy_from_slice(&self.stage_attempt.to_le_bytes());
        bytes[32..64].copy_from_slice(&self.job);
        bytes[64..64 + RELEASE.len()].copy_from_slice(RELEASE.as_bytes());
        bytes
    }

    /// Reads the hello that a peer sent to the rank whose own hello towards that peer is `self`. One
    /// of another attempt passes: which of the two is the older is decided once both have proof.
    pub(crate) fn judge(&self, bytes: &[u8; HELLO_BYTES]) -> Result<Hello, Mismatch> {
        if &bytes[..8] != MAGIC {
            return Err(Mismatch::NotFlambeau);
        }
        if bytes[8..10] != WIRE_VERSION.to_le_bytes() || bytes[64..96] != self.encode()[64..96] {
            let release = String::from_utf8_lossy(&bytes[64..96]);
            return Err(Mismatch::Release(release.trim_end_matches('\0').to_owned()));
        }
        let purpose = match bytes[10] {
            1 => Purpose::Control,
            2 => Purpose::Data,
            3 => Purpose::Call,
            _ => return Err(Mismatch::NotFlambeau),
        };
        let hello = Hello {
            purpose,
            from: read_rank(bytes, 12),
            to: read_rank(bytes, 16),
            world_size: read_rank(bytes, 20),
            stage_attempt: bytes[24..32]
                .iter()
                .rev()
                .fold(0, |n, b| n << 8 | u64::from(*b)),
            job: std::array::from_fn(|i| bytes[32 + i]),
        };
        if hello.job != self.job {
            return Err(Mismatch::OtherJob);
        }
        let expected = Hello {
            from: self.to,
            to: self.from,
            stage_attempt: hello.stage_attempt,
            ..self.clone()
        };
        if hello == expected {
            Ok(hello)
        } else {
            Err(Mismatch::OtherRank)
        }
    }

    /// The rank a hello claims to come from, before anything else about it is believed.
    pub(crate) fn claimed_rank(bytes: &[u8; HELLO_BYTES]) -> usize {
        read_rank(bytes, 12)
    }
}

fn read_rank(bytes: &[u8; HELLO_BYTES], at: usize) -> usize {
    bytes[at..at + 4]
        .iter()
        .rev()
        .fold(0, |n, b| n << 8 | usize::from(*b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{HELLO_BYTES, Hello, Mismatch, Purpose};

    fn hello(from: usize, to: usize) -> Hello {
        let job = [9; 32];
        Hello {
            purpose: Purpose::Control,
            from,
            to,
            world_size: 3,
            stage_attempt: 4,
            job,
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = hello(2, 1).encode();
        assert_eq!(&bytes[..12], b"FLAMBEAU\x02\x00\x01\x00");
        assert_eq!(&bytes[12..24], &[2, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(&bytes[24..32], &[4, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&bytes[32..64], &[9; 32]);
    }

    #[test]
    fn the_peer_of_a_hello_accepts_it() {
        assert_eq!(hello(0, 2).judge(&hello(2, 0).encode()), Ok(hello(2, 0)));
    }

    #[test]
    fn a_mismatch_is_told_apart() {
        let own = hello(0, 2);
        let peer = hello(2, 0);
        let judge = |other: Hello| own.judge(&other.encode());
        assert_eq!(
            judge(Hello {
                job: [1; 32],
                ..peer.clone()
            }),
            Err(Mismatch::OtherJob)
        );
        let attempt = Hello {
            stage_attempt: 5,
            ..peer.clone()
        };
        assert_eq!(judge(attempt.clone()), Ok(attempt));
        assert_eq!(
            judge(Hello {
                from: 1,
                ..peer.clone()
            }),
            Err(Mismatch::OtherRank)
        );
        let data = Hello {
            purpose: Purpose::Data,
            ..peer.clone()
        };
        assert_eq!(judge(data), Err(Mismatch::OtherRank));
        let mut release = peer.encode();
        release[64..70].copy_from_slice(b"99.1.0");
        assert_eq!(
            own.judge(&release),
            Err(Mismatch::Release("99.1.0".to_owned()))
        );
    }

    proptest! {
        #[test]
        fn garbage_is_never_accepted(bytes in prop::collection::vec(any::<u8>(), HELLO_BYTES)) {
            let bytes: [u8; HELLO_BYTES] = bytes.try_into().expect("128 bytes");
            prop_assert!(hello(0, 2).judge(&bytes).is_err());
        }
    }
}
