//! Signed tokens that platforms put into webhooks: RS256 against keys that somebody else fetched.
//!
//! Only RS256: a token that names another algorithm (`none`, or HMAC with the public key) is
//! refused, whatever else it says. Times are checked against a time that is an argument.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// How far clocks may differ, in seconds.
const CLOCK_SKEW_MAX_S: i64 = 300;

/// What a token says. Nobody has checked that it says it rightly.
pub fn claims(token: &str) -> Option<Value> {
    part(token.split('.').nth(1)?).filter(|_| token.split('.').count() == 3)
}

/// What a token says, if one of these keys (a JWKS document) has signed it, it is meant for
/// `audience` and holds at this time (seconds since the epoch). The key it was signed with is
/// returned beside it.
pub fn verified(jwks: &str, token: &str, audience: &str, now_s: i64) -> Option<(Value, Value)> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, _) = signed.split_once('.')?;
    let header = part(header)?;
    if header["alg"] != "RS256" || audience.is_empty() {
        return None;
    }
    let jwks: Value = serde_json::from_str(jwks).ok()?;
    let key = jwks["keys"]
        .as_array()?
        .iter()
        .find(|key| key["kty"] == "RSA" && key["kid"].is_string() && key["kid"] == header["kid"])?;
    let number = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str()?).ok();
    let public = RsaPublicKeyComponents {
        n: number("n")?,
        e: number("e")?,
    };
    let public = public.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    public
        .ok()?
        .verify_sig(signed.as_bytes(), &signature)
        .ok()?;
    let claims = claims(token)?;
    let until = claims["exp"].as_i64()?;
    let from = claims["nbf"].as_i64().unwrap_or(i64::MIN);
    let holds = now_s < until.saturating_add(CLOCK_SKEW_MAX_S)
        && now_s >= from.saturating_sub(CLOCK_SKEW_MAX_S);
    (holds && is_for(&claims, audience)).then(|| (claims, key.clone()))
}

/// True when the token is meant for this audience.
pub fn is_for(claims: &Value, audience: &str) -> bool {
    match &claims["aud"] {
        Value::Array(all) => all.iter().any(|it| it == audience),
        one => one == audience,
    }
}

fn part(encoded: &str) -> Option<Value> {
    let json = URL_SAFE_NO_PAD.decode(encoded).ok()?;
    serde_json::from_slice::<Value>(&json)
        .ok()
        .filter(Value::is_object)
}
