//! Proofs of authenticity: who may speak to the hub in a platform's name.
//!
//! Every comparison takes the same time for every wrong answer, an empty secret never verifies
//! anything, and odd input (wrong length, odd hex, no UTF-8) is a refusal, never a panic. During a
//! rotation the previous secret still verifies; only the current one signs. The functions named
//! `*_sign` are the platforms' side of it, for the sandbox and for tests.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::secret::Secret;

/// How far in the future a signed time may lie: clocks differ.
const CLOCK_SKEW_MAX_S: i64 = 60;

/// The fields the Telegram login widget signs. Whatever else a client adds (`state`, its own
/// bookkeeping) was not sent by Telegram and takes no part in the check.
const WIDGET_FIELDS: [&str; 6] = [
    "auth_date",
    "first_name",
    "id",
    "last_name",
    "photo_url",
    "username",
];

/// HMAC-SHA256 of a message.
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// True when both are equal. Takes the same time wherever they differ; only lengths leak.
pub fn same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// True when `given` is the secret's HMAC-SHA256 of the message in lower-case hex.
pub fn hex_matches(secret: &Secret, message: &[u8], given: &str) -> bool {
    let expected = hex::encode(hmac_sha256(secret.expose().as_bytes(), message));
    !secret.is_empty() && same(expected.as_bytes(), given.as_bytes())
}

/// True when `given` is the secret's HMAC-SHA256 of the message in padded standard base64.
pub fn base64_matches(secret: &Secret, message: &[u8], given: &str) -> bool {
    let expected = STANDARD.encode(hmac_sha256(secret.expose().as_bytes(), message));
    !secret.is_empty() && same(expected.as_bytes(), given.as_bytes())
}

/// Checks Meta's `X-Hub-Signature-256` over the raw body: exactly `sha256=` and 64 hex digits made
/// with the current or the previous app secret.
pub fn meta(header: Option<&str>, raw: &[u8], current: &Secret, previous: &Secret) -> bool {
    let Some(digest) = header.and_then(|value| value.strip_prefix("sha256=")) else {
        return false;
    };
    // Both are always computed, so that the time does not tell which secret is in use.
    hex_matches(current, raw, digest) | hex_matches(previous, raw, digest)
}

/// The value of `X-Hub-Signature-256` that Meta would send with this body.
pub fn meta_sign(secret: &str, raw: &[u8]) -> String {
    format!(
        "sha256={}",
        hex::encode(hmac_sha256(secret.as_bytes(), raw))
    )
}

/// Meta's `appsecret_proof`: shows that the caller of a token also holds the app secret.
pub fn appsecret_proof(app_secret: &str, access_token: &str) -> String {
    hex::encode(hmac_sha256(app_secret.as_bytes(), access_token.as_bytes()))
}

/// Compares a shared secret that came in clear (Telegram's `X-Telegram-Bot-Api-Secret-Token`,
/// Meta's verify token) with the current or the previous one.
pub fn shared_secret(given: Option<&str>, current: &Secret, previous: &Secret) -> bool {
    let given = given.unwrap_or_default().as_bytes();
    let matches = |secret: &Secret| !secret.is_empty() && same(secret.expose().as_bytes(), given);
    matches(current) | matches(previous)
}

/// Checks what an outgoing webhook of a team sends: `HMAC` and the signature of the raw body in
/// base64, made with the security token, which is a key in base64 itself.
pub fn teams_outgoing(header: Option<&str>, raw: &[u8], token: &Secret) -> bool {
    let given = header.and_then(|value| value.strip_prefix("HMAC "));
    let key = STANDARD.decode(token.expose()).unwrap_or_default();
    let expected = STANDARD.encode(hmac_sha256(&key, raw));
    let matches = same(expected.as_bytes(), given.unwrap_or_default().as_bytes());
    !key.is_empty() && matches
}

/// Why the fields of a login widget were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WidgetRefused {
    /// No bot token is configured, so nothing can be checked.
    #[error("Telegram login is not configured")]
    NotConfigured,
    /// A required field is absent, given twice, or not of its form.
    #[error("The Telegram login data is incomplete or malformed")]
    Malformed,
    /// The fields were not signed for this bot.
    #[error("The Telegram login data is not authentic")]
    Signature,
    /// Signed too long ago.
    #[error("The Telegram login has expired")]
    Stale,
    /// Signed in the future, beyond what clocks differ by.
    #[error("The Telegram login is dated in the future")]
    Future,
}

/// Checks the fields of the Telegram login widget, given URL-decoded and in any order.
///
/// `max_age_s` is inclusive. The hash stays valid until it ages out, so the caller must also bind
/// the attempt to a single-use `state`.
pub fn widget(
    bot_token: &Secret,
    fields: &[(String, String)],
    now_s: i64,
    max_age_s: i64,
) -> Result<(), WidgetRefused> {
    if bot_token.is_empty() {
        return Err(WidgetRefused::NotConfigured);
    }
    let mut seen = HashSet::new();
    if !fields.iter().all(|(name, _)| seen.insert(name.as_str())) {
        return Err(WidgetRefused::Malformed);
    }
    let field = |name: &str| {
        let found = fields.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .ok_or(WidgetRefused::Malformed)
    };
    let id = field("id")?;
    let signed_s: i64 = field("auth_date")?
        .parse()
        .map_err(|_| WidgetRefused::Malformed)?;
    let hash = field("hash")?;
    // A line break inside a value would let one signed text be cut into fields in two ways.
    let one_line = fields.iter().all(|(_, value)| !value.contains('\n'));
    if !one_line || id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(WidgetRefused::Malformed);
    }
    if !same(
        widget_sign(bot_token.expose(), fields).as_bytes(),
        hash.as_bytes(),
    ) {
        return Err(WidgetRefused::Signature);
    }
    let age_s = now_s.saturating_sub(signed_s);
    if age_s > max_age_s {
        return Err(WidgetRefused::Stale);
    }
    if age_s < -CLOCK_SKEW_MAX_S {
        return Err(WidgetRefused::Future);
    }
    Ok(())
}

/// The `hash` Telegram's login widget would send with these fields (others are left out of it).
pub fn widget_sign(bot_token: &str, fields: &[(String, String)]) -> String {
    let mut lines: Vec<String> = fields
        .iter()
        .filter(|(name, _)| WIDGET_FIELDS.contains(&name.as_str()))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    lines.sort();
    let key = Sha256::digest(bot_token.as_bytes());
    hex::encode(hmac_sha256(&key, lines.join("\n").as_bytes()))
}

/// The S256 challenge of a PKCE verifier (RFC 7636).
pub fn pkce_challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

/// What Meta says in the deauthorize and data-deletion callbacks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SignedRequest {
    /// The app-scoped id of the person.
    pub user_id: String,
    /// Always `HMAC-SHA256`; anything else has been refused.
    pub algorithm: String,
    /// Seconds since the epoch.
    pub issued_at: i64,
    /// Seconds since the epoch, where the request expires.
    pub expires: Option<i64>,
}

impl SignedRequest {
    /// Whether it says that it is over. Without a time, or with 0, it does not end.
    pub fn is_expired(&self, now_s: i64) -> bool {
        self.expires
            .is_some_and(|expires| expires > 0 && expires <= now_s)
    }
}

/// The `signed_request` is forged, malformed or signed in a way we do not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid signed request")]
pub struct SignedRequestRefused;

/// Checks and reads Meta's `signed_request`. The signature covers the second part as received,
/// still encoded; whether it has expired is for the caller, who knows the time.
pub fn signed_request(
    value: &str,
    current: &Secret,
    previous: &Secret,
) -> Result<SignedRequest, SignedRequestRefused> {
    let (signature, payload) = value.split_once('.').ok_or(SignedRequestRefused)?;
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| SignedRequestRefused)?;
    let made_with = |secret: &Secret| {
        let expected = hmac_sha256(secret.expose().as_bytes(), payload.as_bytes());
        !secret.is_empty() && same(&expected, &signature)
    };
    if !(made_with(current) | made_with(previous)) {
        return Err(SignedRequestRefused);
    }
    let payload = URL_SAFE_NO_PAD
        .decode(payload)
        .map_err(|_| SignedRequestRefused)?;
    let request: SignedRequest =
        serde_json::from_slice(&payload).map_err(|_| SignedRequestRefused)?;
    if request.algorithm != "HMAC-SHA256" {
        return Err(SignedRequestRefused);
    }
    Ok(request)
}

/// The `signed_request` Meta would send with this payload.
pub fn signed_request_sign(app_secret: &str, payload: &serde_json::Value) -> String {
    let payload = URL_SAFE_NO_PAD.encode(payload.to_string());
    let signature = hmac_sha256(app_secret.as_bytes(), payload.as_bytes());
    format!("{}.{payload}", URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: fn() -> Secret = Secret::default;

    #[test]
    fn a_rotated_secret_still_verifies_and_an_empty_one_never_does() {
        let header = meta_sign("old", b"{}");
        assert!(meta(Some(&header), b"{}", &"new".into(), &"old".into()));
        assert!(!meta(Some(&header), b"{}", &"new".into(), &NONE()));
        let with_empty_key = meta_sign("", b"{}");
        assert!(!meta(Some(&with_empty_key), b"{}", &NONE(), &NONE()));
        assert!(!shared_secret(Some(""), &NONE(), &NONE()));
        assert!(!shared_secret(None, &NONE(), &NONE()));
    }

    #[test]
    fn odd_signatures_are_refused_without_a_panic() {
        let secret = Secret::new("s");
        let right = meta_sign("s", b"x");
        let digest = &right["sha256=".len()..];
        for odd in [
            String::new(),
            "sha256=".into(),
            "sha256=zz".into(),
            digest.into(),
            format!("SHA256={digest}"),
            format!("sha1={digest}"),
            format!("sha256={}", digest.to_uppercase()),
            format!("sha256={}", &digest[..63]),
            format!("{right}0"),
            format!(" {right}"),
            format!("sha256={}é", &digest[..62]),
        ] {
            assert!(!meta(Some(&odd), b"x", &secret, &NONE()), "{odd}");
        }
        assert!(!meta(None, b"x", &secret, &NONE()));
        assert!(meta(Some(&right), b"x", &secret, &NONE()));
    }

    #[test]
    fn base64_signatures() {
        let given = "hrlTGrnzV3U3KM5BiHCLgGlPI5sd7N8iXSklO1FaKTE=";
        assert!(base64_matches(&"tw-secret".into(), b"abc", given));
        assert!(!base64_matches(&"tw-secret".into(), b"abd", given));
    }

    #[test]
    fn pkce_of_rfc_7636() {
        assert_eq!(
            pkce_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    fn ann() -> Vec<(String, String)> {
        [
            ("id", "42"),
            ("first_name", "Ann"),
            ("username", "ann"),
            ("auth_date", "1767225600"),
            (
                "hash",
                "0cb60f17b94e9ec0b7d6e4e73661927658c673ba3a2f8eb9fad78df1179b6f69",
            ),
            ("state", "00ff"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    fn with(name: &str, value: &str) -> Vec<(String, String)> {
        let mut fields = ann();
        fields.retain(|(key, _)| key != name);
        fields.push((name.into(), value.into()));
        fields
    }

    #[test]
    fn widget_of_the_contract() {
        let token = Secret::new("123456:TEST-bot-token");
        let check = |fields: &[_], now| widget(&token, fields, now, 86_400);
        assert_eq!(check(&ann(), 1_767_225_600), Ok(()));
        assert_eq!(check(&ann(), 1_767_312_000), Ok(()));
        assert_eq!(check(&ann(), 1_767_312_001), Err(WidgetRefused::Stale));
        assert_eq!(check(&ann(), 1_767_225_540), Ok(()));
        assert_eq!(check(&ann(), 1_767_225_539), Err(WidgetRefused::Future));
        assert_eq!(check(&with("ours", "1"), 1_767_225_600), Ok(()));
        assert_eq!(
            widget(&NONE(), &ann(), 0, 0),
            Err(WidgetRefused::NotConfigured)
        );
    }

    #[test]
    fn widget_refusals() {
        let token = Secret::new("123456:TEST-bot-token");
        let check = |fields: &[_]| widget(&token, fields, 1_767_225_600, 86_400);
        let hash = ann()[4].1.clone();
        for forged in [
            with("hash", &hash.to_uppercase()),
            with("hash", &hash[..63]),
            with("hash", ""),
            with("id", "43"),
            with("last_name", ""),
        ] {
            assert_eq!(check(&forged), Err(WidgetRefused::Signature));
        }
        for missing in ["hash", "id", "auth_date"] {
            let mut fields = ann();
            fields.retain(|(key, _)| key != missing);
            assert_eq!(check(&fields), Err(WidgetRefused::Malformed));
        }
        for name in ["id", "hash", "state", "ours"] {
            let mut fields = with("ours", "1");
            fields.push((name.into(), "42".into()));
            assert_eq!(check(&fields), Err(WidgetRefused::Malformed));
        }
        assert_eq!(
            check(&with("id", "42\nid=7")),
            Err(WidgetRefused::Malformed)
        );
        assert_eq!(
            check(&with("auth_date", "soon")),
            Err(WidgetRefused::Malformed)
        );
    }

    #[test]
    fn signed_requests() {
        let secret = Secret::new("app");
        let payload =
            serde_json::json!({"user_id": "7", "algorithm": "HMAC-SHA256", "issued_at": 1});
        let value = signed_request_sign("app", &payload);
        let read = signed_request(&value, &secret, &NONE()).unwrap();
        assert_eq!((read.user_id.as_str(), read.expires), ("7", None));
        assert!(signed_request(&value, &"new".into(), &secret).is_ok());
        let ending = |expires: i64| SignedRequest {
            expires: Some(expires),
            ..read.clone()
        };
        assert!(ending(10).is_expired(10) && !ending(10).is_expired(9));
        assert!(!ending(0).is_expired(10) && !read.is_expired(i64::MAX));
        assert!(signed_request(&value, &NONE(), &NONE()).is_err());
        let other = serde_json::json!({"user_id": "7", "algorithm": "none", "issued_at": 1});
        for odd in [
            String::new(),
            ".".into(),
            value.replace('.', ""),
            format!("{value}="),
            signed_request_sign("app", &other),
            signed_request_sign("app", &serde_json::json!(7)),
        ] {
            assert!(signed_request(&odd, &secret, &NONE()).is_err(), "{odd}");
        }
    }
}
