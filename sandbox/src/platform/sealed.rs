//! Tokens that carry their meaning, sealed with a secret of the app, so that they stay good when
//! the sandbox restarts under a hub that has stored them.

use crate::sign::hmac_hex;

/// Hex digits of the signature inside a token.
const MAC_DIGITS: usize = 32;

/// A token with this meaning. No field holds a line break.
pub(super) fn seal(prefix: &str, secret: &str, fields: &[&str]) -> String {
    let claim = hex::encode(fields.join("\n"));
    let mac = mac(prefix, secret, &claim);
    format!("{prefix}{claim}{mac}")
}

/// The meaning of a token that was made with this prefix and secret.
pub(super) fn open(prefix: &str, secret: &str, token: &str) -> Option<Vec<String>> {
    let sealed = token.strip_prefix(prefix)?;
    let (claim, given) = sealed.split_at_checked(sealed.len().checked_sub(MAC_DIGITS)?)?;
    if mac(prefix, secret, claim) != given {
        return None;
    }
    let claim = String::from_utf8(hex::decode(claim).ok()?).ok()?;
    Some(claim.split('\n').map(str::to_owned).collect())
}

fn mac(prefix: &str, secret: &str, claim: &str) -> String {
    let mut mac = hmac_hex(secret.as_bytes(), format!("{prefix} {claim}").as_bytes());
    mac.truncate(MAC_DIGITS);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_means_what_it_was_made_for() {
        let token = seal("X", "secret", &["a", "b c"]);
        assert_eq!(open("X", "secret", &token).unwrap(), ["a", "b c"]);
        assert_eq!(open("X", "other", &token), None);
        assert_eq!(open("Y", "secret", &token), None);
        assert_eq!(open("X", "secret", &token[..token.len() - 1]), None);
        assert_eq!(open("X", "secret", "X"), None);
    }
}
