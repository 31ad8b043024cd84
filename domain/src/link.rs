//! Addresses of media that a browser, or a platform, loads without a token.
//!
//! `/api/media/<object>?owner=…&expires=…&signature=…`: the signature is keyed and covers the other
//! three, so that only an address this installation gave out is served, until it expires. Whoever has
//! the address can load the medium: it is as secret as the message it came in. Expiry falls on whole
//! hours, so that an address stays the same for a while and browsers keep what they have loaded.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use url::form_urlencoded;

use crate::id::{ObjectId, UserId};
use crate::secret::Secret;

/// Expiry falls on multiples of this many seconds.
const STEP_S: i64 = 3600;

/// An address of a medium, taken apart and not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whose it is.
    pub owner: UserId,
    /// The medium.
    pub object: ObjectId,
    /// When it ends, in seconds since 1970.
    pub expires: i64,
    /// The signature.
    pub signature: String,
}

/// Makes and checks addresses of media.
pub struct Links {
    key: Vec<u8>,
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
        Self {
            key: [b"media address:", encryption_key.expose().as_bytes()].concat(),
            base: public_url.to_owned(),
            ttl_s: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX / 2),
        }
    }

    /// The address of an object.
    pub fn url(&self, owner: UserId, object: ObjectId, now: DateTime<Utc>) -> String {
        let expires = (now.timestamp().saturating_add(self.ttl_s) / STEP_S + 1) * STEP_S;
        let signature = self.mac(owner, object, expires).finalize();
        let (base, signature) = (&self.base, hex::encode(signature.into_bytes()));
        format!("{base}/api/media/{object}?owner={owner}&expires={expires}&signature={signature}")
    }

    /// Takes an address of this installation apart; `None` when it is none.
    pub fn parse(&self, url: &str) -> Option<Address> {
        let rest = url.strip_prefix(self.base.as_str())?;
        let (object, query) = rest.strip_prefix("/api/media/")?.split_once('?')?;
        let query: HashMap<_, _> = form_urlencoded::parse(query.as_bytes()).collect();
        Some(Address {
            owner: UserId(query.get("owner")?.parse().ok()?),
            object: ObjectId(object.parse().ok()?),
            expires: query.get("expires")?.parse().ok()?,
            signature: query.get("signature")?.clone().into_owned(),
        })
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
        let mac = self.mac(owner, object, expires);
        mac.verify_slice(&signature)
            .map_err(|_| Unserved::Foreign)?;
        if expires <= now.timestamp() {
            return Err(Unserved::Expired);
        }
        Ok(())
    }

    fn mac(&self, owner: UserId, object: ObjectId, expires: i64) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(owner.0.as_bytes());
        mac.update(object.0.as_bytes());
        mac.update(&expires.to_be_bytes());
        mac
    }
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
        let address = links.parse(&url).unwrap();
        assert_eq!((address.owner, address.object), (OWNER, OBJECT));
        assert_eq!((address.expires, &*address.signature), (expires, signature));
        for odd in [
            "",
            "https://x.example/p.jpg",
            &url.replace("hub.example", "hub.example.evil"),
            &url.replace("/api/media/", "/api/media/x"),
            url.split('?').next().unwrap(),
        ] {
            assert_eq!(links.parse(odd), None, "{odd}");
        }
        let elsewhere = super::tests::links("other").url(OWNER, OBJECT, at(5));
        let elsewhere = part(&elsewhere, "signature");
        assert_eq!(check(OWNER, OBJECT, expires, elsewhere, at(0)), foreign);
    }
}
