//! Who gets in with a token that looks right: nobody whose token is not ours.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hub_domain::signature::hmac_sha256;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::hub::{Hub, request};

#[tokio::test]
async fn forged_tokens_are_refused() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let secret = hub.api.settings().auth.jwt_secret.expose().to_owned();
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let sign = |header: &Value, payload: &Value, secret: &str| {
        let content = format!("{}.{}", part(header), part(payload));
        let signature = hmac_sha256(secret.as_bytes(), content.as_bytes());
        format!("{content}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let later = chrono::Utc::now().timestamp() + 600;
    let payload = json!({"userId": ann.user, "email": ann.email, "iat": 0, "exp": later});
    let right = sign(&header, &payload, &secret);
    let status = async |token: &str| {
        let answer = hub
            .call(request("GET", "/api/auth/me", Some(token), None))
            .await;
        if answer.status == 401 {
            assert_eq!(answer.code(), "INVALID_TOKEN", "{token}");
        }
        answer.status
    };
    assert_eq!(status(&right).await, 200);
    let (content, signature) = right.rsplit_once('.').unwrap();
    let mut forged = vec![
        sign(&header, &payload, "other"),
        sign(&header, &payload, ""),
        format!("{content}."),
        content.to_owned(),
        format!("{right}."),
        format!("{right}.x"),
        format!("{content}.{}", signature.to_uppercase()),
        format!(".{signature}"),
        "..".to_owned(),
        format!("{}.{}.", part(&json!({"alg": "none"})), part(&payload)),
    ];
    for odd in [
        json!({"alg": "none"}),
        json!({"alg": "None"}),
        json!({"alg": "HS384"}),
        json!({"alg": "HS512"}),
        json!({"alg": "RS256"}),
        json!({"alg": "ES256"}),
        json!({"alg": ""}),
        json!({"alg": 256}),
        json!({}),
        json!([]),
        json!({"alg": "HS256", "crit": ["exp"], "exp": 0}),
    ] {
        forged.push(sign(&odd, &payload, &secret));
    }
    for (field, value) in [
        ("exp", Value::Null),
        ("exp", json!("soon")),
        ("exp", json!([later])),
        ("nbf", json!(later)),
        ("userId", json!("x")),
        ("userId", json!(7)),
        ("userId", Value::Null),
        ("userId", json!(Uuid::now_v7())),
        ("sub", json!(Uuid::now_v7())),
        ("email", Value::Null),
        ("email", json!("nobody@example.com")),
        ("aud", json!("somebody else")),
    ] {
        let mut odd = payload.clone();
        odd[field] = value;
        forged.push(sign(&header, &odd, &secret));
    }
    for token in forged {
        assert_eq!(status(&token).await, 401, "{token}");
    }
}
