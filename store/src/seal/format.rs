//! The bytes that are hashed, format 1. Pure; docs/seals.md says the same for outsiders, and a test
//! holds a verifier written from it against this.
//!
//! Whatever is hashed begins with a tag that is in no other, and every part is of fixed length or
//! has its length before it: no two contents have the same bytes. A tag has the format's number, so
//! that there can be another.

use aws_lc_rs::hmac;
use chrono::{DateTime, Utc};
use hub_domain::id::Shard;
use hub_domain::secret::Secret;
use sha2::{Digest as _, Sha256};

use crate::read::Stored;
use crate::vault::installation_key;

/// The number of this format.
pub const FORMAT: i16 = 1;

/// Bytes of a leaf: nobody finds a second event for a given leaf.
pub const LEAF_BYTES: usize = 16;

/// What the first seal of a shard continues.
pub const BEGINNING: Hash = [0; 32];

/// What stands for one event in a seal.
pub type Leaf = [u8; LEAF_BYTES];

/// What a seal's content comes to.
pub type Hash = [u8; 32];

const LEAF_TAG: &[u8] = b"hub leaf 1";
const SEAL_TAG: &[u8] = b"hub seal 1";
const MAC_TAG: &[u8] = b"hub mac 1";
const KEY_LABEL: &[u8] = b"hub seal key 1";

/// The leaf of an event: everything in its row but its place.
pub fn leaf(event: &Stored) -> Leaf {
    let mut hash = Sha256::new();
    for part in [
        LEAF_TAG,
        event.stream.0.as_bytes(),
        &event.version.to_be_bytes(),
        event.kind.as_bytes(),
        &event.schema.to_be_bytes(),
        event.payload.as_bytes(),
        event.meta.as_bytes(),
        &event.recorded_at.timestamp_micros().to_be_bytes(),
    ] {
        let len = u32::try_from(part.len()).expect("PostgreSQL stores no text beyond 1 GB");
        hash.update(len.to_be_bytes());
        hash.update(part);
    }
    let mut leaf = [0; LEAF_BYTES];
    leaf.copy_from_slice(&hash.finalize()[..LEAF_BYTES]);
    leaf
}

/// The hash of the seal of (after, through] with these leaves.
pub fn hash(previous: &Hash, shard: Shard, after: i64, through: i64, leaves: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(SEAL_TAG);
    hash.update(previous);
    hash.update(shard.0.to_be_bytes());
    hash.update(after.to_be_bytes());
    hash.update(through.to_be_bytes());
    hash.update(leaves);
    hash.finalize().into()
}

/// True when these are leaves for the events (after, through], one for each.
pub fn fits(after: i64, through: i64, leaves: &[u8]) -> bool {
    let count = through
        .checked_sub(after)
        .and_then(|count| usize::try_from(count).ok());
    leaves.len().is_multiple_of(LEAF_BYTES) && count == Some(leaves.len() / LEAF_BYTES)
}

/// Says that an installation made a seal, and when: whoever can write the database and has not
/// `ENCRYPTION_KEY` can neither make a seal nor date one back.
#[derive(Clone)]
pub struct SealKey(hmac::Key);

impl SealKey {
    /// The key of the installation that has this `ENCRYPTION_KEY`: derived, so that no key of the
    /// cipher is used for something else.
    pub fn new(encryption_key: &Secret) -> Self {
        let installation = hmac::Key::new(hmac::HMAC_SHA256, &installation_key(encryption_key));
        let derived = hmac::sign(&installation, KEY_LABEL);
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// The authentication of a seal made at this moment.
    pub fn sign(&self, hash: &Hash, sealed_at: DateTime<Utc>) -> Vec<u8> {
        hmac::sign(&self.0, &signed(hash, sealed_at))
            .as_ref()
            .to_vec()
    }

    /// True when this key has made that seal at that moment.
    pub fn is_ours(&self, hash: &Hash, sealed_at: DateTime<Utc>, mac: &[u8]) -> bool {
        hmac::verify(&self.0, &signed(hash, sealed_at), mac).is_ok()
    }
}

fn signed(hash: &Hash, sealed_at: DateTime<Utc>) -> Vec<u8> {
    let sealed_at = sealed_at.timestamp_micros().to_be_bytes();
    [MAC_TAG, hash.as_slice(), &sealed_at].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hub_domain::id::{Place, StreamId};
    use uuid::Uuid;

    fn event() -> Stored {
        Stored {
            place: Place {
                shard: Shard(3),
                position: 1042,
            },
            stream: StreamId(Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff)),
            version: 7,
            kind: "MessageReceived".to_owned(),
            schema: 1,
            payload: "{\"text\":\"Grüße ☕\"}".to_owned(),
            meta: "{}".to_owned(),
            recorded_at: DateTime::from_timestamp_micros(1_767_323_045_678_901).expect("a moment"),
        }
    }

    // Computed with Python's hashlib and hmac from docs/seals.md, not by this code.
    const LEAF: &str = "81f89eab88175b48d7a7d07a22a658e2";
    const HASH: &str = "11e4b30782ca54324c2f422bfae6dcad1a996eac11fb742cf74fd664403dfd7f";
    const NEXT: &str = "e552b46f42e03204bb0113af6a8250bc9168734462b32b59bdb6cd96d4f1dc7f";
    const MAC_LONG: &str = "d2e90ef6d860b35b909cbf6c68d6cd81058a1a53f6f924ce31b74ee4d7a53177";
    const MAC_32: &str = "ac5edec6c73f6ca986b9ea1f932128f32f6e20e52c3e224036181b9f05067d93";

    #[test]
    fn the_format_is_what_it_was() {
        let leaf = leaf(&event());
        assert_eq!(hex::encode(leaf), LEAF);
        let first = hash(&BEGINNING, Shard(3), 0, 1, &leaf);
        assert_eq!(hex::encode(first), HASH);
        let next = hash(&first, Shard(3), 1, 3, &[leaf, leaf].concat());
        assert_eq!(hex::encode(next), NEXT);
        let moment = event().recorded_at;
        for (secret, mac) in [
            ("an ENCRYPTION_KEY of any length", MAC_LONG),
            ("exactly thirty-two bytes long...", MAC_32),
        ] {
            let key = SealKey::new(&Secret::new(secret));
            let signed = key.sign(&first, moment);
            assert_eq!(hex::encode(&signed), mac);
            assert!(key.is_ours(&first, moment, &signed));
            assert!(!key.is_ours(&next, moment, &signed));
            let later = moment + chrono::Duration::microseconds(1);
            assert!(!key.is_ours(&first, later, &signed));
            assert!(!SealKey::new(&Secret::new("another")).is_ours(&first, moment, &signed));
        }
    }

    #[test]
    fn everything_in_the_row_but_its_place_is_in_the_leaf() {
        type Change = fn(&mut Stored);
        let original = leaf(&event());
        let changes: [Change; 7] = [
            |it| it.stream = StreamId(Uuid::from_u128(1)),
            |it| it.version += 1,
            |it| it.kind.push('s'),
            |it| it.schema += 1,
            |it| it.payload.push(' '),
            |it| it.meta.push(' '),
            |it| it.recorded_at += chrono::Duration::microseconds(1),
        ];
        for change in changes {
            let mut altered = event();
            change(&mut altered);
            assert_ne!(leaf(&altered), original, "{altered:?}");
        }
        let mut moved = event();
        moved.place.position += 1;
        assert_eq!(leaf(&moved), original);
    }

    #[test]
    fn text_does_not_slip_from_one_part_into_the_next() {
        let (mut one, mut other) = (event(), event());
        (one.payload, one.meta) = ("ab".to_owned(), "c".to_owned());
        (other.payload, other.meta) = ("a".to_owned(), "bc".to_owned());
        assert_ne!(leaf(&one), leaf(&other));
    }
}
