//! Addresses of media that a browser loads without a token.
//!
//! `/api/media/<object>?owner=…&expires=…&signature=…`: the signature is keyed and covers the other
//! three, so that only an address this installation gave out is served, until it expires. Whoever has
//! the address can load the medium: it is as secret as the message it came in. Expiry falls on whole
//! hours, so that an address stays the same for a while and browsers keep what they have loaded.

use std::time::Duration;

use aws_lc_rs::hmac;
use chrono::{DateTime, TimeDelta, Utc};
use hub_domain::id::{MessageId, ObjectId, UserId, object_id};
use hub_domain::projection::inbox::File;
use hub_domain::secret::Secret;
use hub_store::entity::message;

/// Expiry falls on multiples of this many seconds.
const STEP_S: i64 = 3600;

/// How long after a message came its media may still be on their way. Later it is shown without.
const AHEAD: TimeDelta = TimeDelta::minutes(1);

/// Makes and checks addresses of media.
pub struct Links {
    key: hmac::Key,
    base: String,
    ttl_s: i64,
}

/// Why an address is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// This installation did not give it out.
    Foreign,
    /// It was good once.
    Expired,
}

impl Links {
    /// Addresses below this one, good for this long at least.
    pub fn new(encryption_key: &Secret, public_url: &str, ttl: Duration) -> Self {
        let key = [b"media address:", encryption_key.expose().as_bytes()].concat();
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            base: public_url.to_owned(),
            ttl_s: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX / 2),
        }
    }

    /// The address of an object.
    pub fn url(&self, owner: UserId, object: ObjectId, now: DateTime<Utc>) -> String {
        let expires = (now.timestamp().saturating_add(self.ttl_s) / STEP_S + 1) * STEP_S;
        let signature = hmac::sign(&self.key, &signed(owner, object, expires));
        let (base, signature) = (&self.base, hex::encode(signature));
        format!("{base}/api/media/{object}?owner={owner}&expires={expires}&signature={signature}")
    }

    /// Whether an address is one of ours and still good.
    pub fn check(
        &self,
        owner: UserId,
        object: ObjectId,
        expires: i64,
        signature: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Unserved> {
        let signature = hex::decode(signature).map_err(|_| Unserved::Foreign)?;
        hmac::verify(&self.key, &signed(owner, object, expires), &signature)
            .map_err(|_| Unserved::Foreign)?;
        if expires <= now.timestamp() {
            return Err(Unserved::Expired);
        }
        Ok(())
    }
}

fn signed(owner: UserId, object: ObjectId, expires: i64) -> Vec<u8> {
    let (owner, object) = (owner.0.as_bytes(), object.0.as_bytes());
    [owner, object, expires.to_be_bytes().as_slice()].concat()
}

/// The object that a client is shown of a message: the first that the hub has, or, of a message that
/// has just come, the first that is being fetched. Clients are told of a message once and do not ask
/// again, so they get its address ahead; whoever loads it waits for the bytes.
pub fn shown(row: &message::Model, now: DateTime<Utc>) -> Option<ObjectId> {
    let files: Vec<File> = serde_json::from_value(row.files.clone()).ok()?;
    let is_fresh = now.signed_duration_since(row.created_at) < AHEAD;
    let came = matches!(row.state.as_str(), "received" | "observed");
    if files.is_empty() && is_fresh && came {
        return Some(object_id(MessageId(row.id), 0));
    }
    files.into_iter().find_map(|it| Some(it.stored?.object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const OWNER: UserId = UserId(Uuid::from_u128(1));
    const OBJECT: ObjectId = ObjectId(Uuid::from_u128(2));

    fn links(key: &str) -> Links {
        let ttl = Duration::from_secs(600);
        Links::new(&Secret::new(key), "https://hub.example", ttl)
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600 + seconds, 0).unwrap()
    }

    fn part<'a>(url: &'a str, name: &str) -> &'a str {
        let (_, rest) = url.split_once(&format!("{name}=")).unwrap();
        rest.split('&').next().unwrap()
    }

    #[test]
    fn an_address_is_good_until_it_expires_and_for_nothing_else() {
        let links = links("key");
        let url = links.url(OWNER, OBJECT, at(5));
        assert!(url.starts_with(&format!(
            "https://hub.example/api/media/{OBJECT}?owner={OWNER}&"
        )));
        assert_eq!(
            url,
            links.url(OWNER, OBJECT, at(1000)),
            "the same for a while"
        );
        let (expires, signature) = (part(&url, "expires"), part(&url, "signature"));
        let expires: i64 = expires.parse().unwrap();
        assert!(expires > at(605).timestamp());
        let check = |owner, object, expires, signature: &str, now| {
            links.check(owner, object, expires, signature, now)
        };
        assert_eq!(check(OWNER, OBJECT, expires, signature, at(700)), Ok(()));
        let late = check(OWNER, OBJECT, expires, signature, at(8000));
        assert_eq!(late, Err(Unserved::Expired));
        let foreign = Err(Unserved::Foreign);
        let (other_owner, other) = (UserId(OBJECT.0), ObjectId(OWNER.0));
        assert_eq!(
            check(other_owner, OBJECT, expires, signature, at(0)),
            foreign
        );
        assert_eq!(check(OWNER, other, expires, signature, at(0)), foreign);
        assert_eq!(check(OWNER, OBJECT, expires + 1, signature, at(0)), foreign);
        assert_eq!(
            check(OWNER, OBJECT, expires, &signature[2..], at(0)),
            foreign
        );
        assert_eq!(check(OWNER, OBJECT, expires, "", at(0)), foreign);
        let elsewhere = super::tests::links("other").url(OWNER, OBJECT, at(5));
        let elsewhere = part(&elsewhere, "signature");
        assert_eq!(check(OWNER, OBJECT, expires, elsewhere, at(0)), foreign);
    }
}
