//! The signatures the platforms make, written here and not borrowed from the hub.
//!
//! Independence is the point: were both sides to share this code, a wrong signature would verify.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// HMAC-SHA256 in lower-case hex.
pub(crate) fn hmac_hex(key: &[u8], message: &[u8]) -> String {
    hex::encode(hmac(key, message))
}

/// HMAC-SHA256 in padded base64.
pub(crate) fn hmac_base64(key: &[u8], message: &[u8]) -> String {
    STANDARD.encode(hmac(key, message))
}

/// Meta's `signed_request`: a signature and what it signs, both in base64 without padding.
pub(crate) fn signed_request(secret: &str, payload: &serde_json::Value) -> String {
    let payload = URL_SAFE_NO_PAD.encode(payload.to_string());
    let signature = hmac(secret.as_bytes(), payload.as_bytes());
    format!("{}.{payload}", URL_SAFE_NO_PAD.encode(signature))
}

/// The S256 challenge of a PKCE verifier.
pub(crate) fn pkce_challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// The SHA-256 digest of these bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The hash of Telegram's login widget over these fields, whatever their order.
pub(crate) fn widget_hash(bot_token: &str, fields: &[(&str, String)]) -> String {
    let mut lines: Vec<String> = fields
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    lines.sort();
    hmac_hex(
        &Sha256::digest(bot_token.as_bytes()),
        lines.join("\n").as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_like_the_published_vectors() {
        let secret = b"0f1e2d3c4b5a69788796a5b4c3d2e1f0";
        let body = br#"{"object":"page","entry":[{"id":"104857600112233","time":1791201600900,"messaging":[{"sender":{"id":"7214365098123401"},"recipient":{"id":"104857600112233"},"timestamp":1791201600005,"message":{"mid":"m_vector_1","text":"Gr\u00fc\u00dfe \u2615 https:\/\/shop.example\/a"}}]}]}"#;
        assert_eq!(
            hmac_hex(secret, body),
            "6315dca9341631e3fe733aade2e6ff5e9cbd5668019dc70428cfcfab1c0a2549"
        );
        assert_eq!(
            hmac_hex(secret, b"EAAGm0PX4ZCpsBAexamplePageToken"),
            "f016abe7c11da2fda2f42d3cd3e59dca724ebb7328662aad0be4ff3f3272b5df"
        );
    }

    #[test]
    fn signs_like_x() {
        let key = b"hubTestConsumerSecret0123456789abcdefghijklmnopqrstuv";
        assert_eq!(
            hmac_base64(key, b"challenge_string"),
            "bZqZwKYgl5Psgs7vkGCDkzULgpJ6SK1bU/ooIGYZyEc="
        );
        assert_eq!(
            pkce_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn the_widget_hash_sorts_its_fields() {
        let token = format!("777777777:{}", "a".repeat(35));
        let fields = [
            ("id", "666666666".to_owned()),
            ("username", "my_username".to_owned()),
            ("first_name", "Some".to_owned()),
            ("last_name", "Guy".to_owned()),
            (
                "photo_url",
                "https://t.me/i/userpic/320/my_username.jpg".to_owned(),
            ),
            ("auth_date", "1543194375".to_owned()),
        ];
        assert_eq!(
            widget_hash(&token, &fields),
            "a9cf12636fb07b54b4c95673d017a72364472c41a760b6850bcd5405da769f80"
        );
    }
}
