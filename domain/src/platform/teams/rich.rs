//! Notifications that carry the message, encrypted for us.
//!
//! Anybody can encrypt for a public key. So content is believed only when a token in the same body,
//! signed by Microsoft for our app and made by Graph's own change tracking, speaks for the item's
//! tenant; and it is decrypted only after its HMAC was checked. Whatever is wrong with it, the
//! message is fetched as if it had not been there.
//!
//! Documented at <https://learn.microsoft.com/graph/change-notifications-with-resource-data>.

use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::jwt;
use crate::platform::App;
use crate::secret::Secret;
use crate::signature::{hmac_sha256, same};

/// The application that sends change notifications. A token of any other was not made by Graph.
const CHANGE_TRACKING: &str = "0bf30f3b-4a52-48df-9a82-234910c4a086";

/// The message in a notice, when there is one that can be believed at this time.
pub fn open(app: &App, notice: &Value, now_s: i64) -> Option<Vec<u8>> {
    let tenant = notice["tenantId"].as_str()?;
    let tokens = notice["validationTokens"].as_array()?;
    let vouched = tokens.iter().filter_map(Value::as_str).any(|token| {
        is_of_graph(
            &app.webhook_keys,
            token,
            &app.webhook_audience,
            tenant,
            now_s,
        )
    });
    if !vouched {
        return None;
    }
    let plain = decrypt(&app.encryption_key, &notice["encryptedContent"])?;
    serde_json::from_slice::<Value>(&plain)
        .is_ok_and(|message| message["messageType"].is_string())
        .then_some(plain)
}

/// True when Graph made this token for our app, about this tenant, for this time.
fn is_of_graph(keys: &str, token: &str, audience: &str, tenant: &str, now_s: i64) -> bool {
    let Some((claims, _)) = jwt::verified(keys, token, audience, now_s) else {
        return false;
    };
    let publisher = claims["appid"].as_str().or(claims["azp"].as_str());
    let issuers = [
        format!("https://sts.windows.net/{tenant}/"),
        format!("https://login.microsoftonline.com/{tenant}/v2.0"),
    ];
    publisher == Some(CHANGE_TRACKING) && issuers.iter().any(|issuer| claims["iss"] == **issuer)
}

/// The plain content, or nothing when any step does not come out right.
fn decrypt(key: &Secret, content: &Value) -> Option<Vec<u8>> {
    let field = |name: &str| STANDARD.decode(content[name].as_str()?).ok();
    let (wrapped, mut data) = (field("dataKey")?, field("data")?);
    let private = STANDARD.decode(key.expose()).ok()?;
    let private = PrivateDecryptingKey::from_pkcs8(&private).ok()?;
    let private = OaepPrivateDecryptingKey::new(private).ok()?;
    let mut unwrapped = vec![0; private.min_output_size()];
    let unwrapped = private
        .decrypt(&OAEP_SHA1_MGF1SHA1, &wrapped, &mut unwrapped, None)
        .ok()?;
    if !same(&hmac_sha256(unwrapped, &data), &field("dataSignature")?) {
        return None;
    }
    let iv: [u8; 16] = unwrapped.get(..16)?.try_into().ok()?;
    let cipher = UnboundCipherKey::new(&AES_256, unwrapped).ok()?;
    let cipher = PaddedBlockDecryptingKey::cbc_pkcs7(cipher).ok()?;
    let iv = DecryptionContext::Iv128(FixedLength::from(iv));
    Some(cipher.decrypt(&mut data, iv).ok()?.to_vec())
}
