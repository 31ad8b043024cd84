//! The hub's own tokens, and who is calling.
//!
//! HS256 under two secrets, one per kind of token: a refresh token is no access token because it
//! was signed with the other secret. The algorithm is ours and never the header's; an empty secret
//! signs and verifies nothing.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use hub_config::AuthSettings;
use hub_domain::envelope::Meta;
use hub_domain::id::UserId;
use hub_domain::secret::Secret;
use hub_store::session::{NewToken, Pair};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::Api;
use crate::error::{Problem, chain};
use crate::request::RequestId;
use crate::{limit, usage};

/// What a valid token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The user.
    pub user: UserId,
    /// Their e-mail address, as it was when the token was made.
    pub email: String,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is ours, and its time is over.
    #[error("Token has expired")]
    Expired,
    /// Malformed, signed by somebody else, or of the other kind.
    #[error("Invalid access token")]
    Invalid,
}

/// The claims on the wire; `userId` and `email` are what existing clients read.
#[derive(Serialize, Deserialize)]
struct Payload {
    #[serde(rename = "userId")]
    user_id: Uuid,
    email: String,
    #[serde(default)]
    sub: Option<Uuid>,
    #[serde(default)]
    jti: Option<String>,
    #[serde(default)]
    iat: i64,
    exp: i64,
}

/// Checks an access token.
pub fn verify_access(settings: &AuthSettings, token: &str) -> Result<Claims, TokenError> {
    verify(&settings.jwt_secret, token)
}

/// Who an access token belongs to: checks it, and that there is such a user, who was not erased since.
/// That costs a question to the database now and then; what a token says does not change when its
/// owner goes, or when the database is another one.
///
/// When the database does not answer, the token alone decides: whatever is done with it next asks
/// the same database.
pub async fn identify(api: &Api, token: &str) -> Result<Claims, TokenError> {
    let claims = verify_access(&api.settings().auth, token)?;
    match api.store().vault().is_there(claims.user).await {
        Ok(true) => Ok(claims),
        Ok(false) => Err(TokenError::Invalid),
        Err(error) => {
            tracing::warn!(
                error = chain(&error),
                "whether a user is there is not known"
            );
            Ok(claims)
        }
    }
}

/// Checks a refresh token's signature and expiry; whether it was revoked is the store's to say.
pub fn verify_refresh(settings: &AuthSettings, token: &str) -> Result<Claims, TokenError> {
    verify(&settings.jwt_refresh_secret, token)
}

fn verify(secret: &Secret, token: &str) -> Result<Claims, TokenError> {
    if secret.is_empty() {
        return Err(TokenError::Invalid);
    }
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = 0;
    validation.validate_nbf = true;
    let key = DecodingKey::from_secret(secret.expose().as_bytes());
    let decoded = jsonwebtoken::decode::<Payload>(token, &key, &validation).map_err(|error| {
        match error.kind() {
            ErrorKind::ExpiredSignature => TokenError::Expired,
            _ => TokenError::Invalid,
        }
    })?;
    let payload = decoded.claims;
    // A critical extension we do not know must not be ignored (RFC 7515, 4.1.11).
    if decoded.header.crit.is_some() || payload.sub.is_some_and(|sub| sub != payload.user_id) {
        return Err(TokenError::Invalid);
    }
    Ok(Claims {
        user: UserId(payload.user_id),
        email: payload.email,
    })
}

/// Makes a pair of tokens, and what the store keeps of the refresh token. `None` when a secret is
/// missing.
pub fn issue(
    settings: &AuthSettings,
    claims: &Claims,
    now: DateTime<Utc>,
) -> Option<(Pair, NewToken)> {
    let access = sign(&settings.jwt_secret, claims, now, settings.access_ttl)?;
    let refresh = sign(
        &settings.jwt_refresh_secret,
        claims,
        now,
        settings.refresh_ttl,
    )?;
    let token = NewToken {
        hash: token_hash(&refresh),
        expires_at: now + settings.refresh_ttl,
    };
    Some((Pair { access, refresh }, token))
}

/// What the store keeps of a refresh token.
pub fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

fn sign(secret: &Secret, claims: &Claims, now: DateTime<Utc>, ttl: Duration) -> Option<String> {
    if secret.is_empty() {
        return None;
    }
    let payload = Payload {
        user_id: claims.user.0,
        email: claims.email.clone(),
        sub: Some(claims.user.0),
        // Two logins in one second must not give the same token.
        jti: Some(Uuid::new_v4().simple().to_string()),
        iat: now.timestamp(),
        exp: (now + ttl).timestamp(),
    };
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &payload, &key).ok()
}

/// Who is calling: the extractor of every route that needs a bearer token. It also counts the
/// request ([`limit`], `usage`).
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user.
    pub user: UserId,
    /// Their e-mail address, as the token says.
    pub email: String,
    /// The request's id.
    pub request: RequestId,
}

impl Caller {
    /// What is written beside every event this request causes.
    pub fn meta(&self) -> Meta {
        Meta {
            actor: Some(self.user.0),
            ..self.request.meta()
        }
    }
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let token = bearer(&parts.headers)?;
        let claims = identify(api, token).await?;
        limit::count(api, parts, claims.user).await?;
        usage::is_of(parts, claims.user);
        Ok(Self {
            user: claims.user,
            email: claims.email,
            request: RequestId::of(&parts.extensions),
        })
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let code = match error {
            TokenError::Expired => "TOKEN_EXPIRED",
            TokenError::Invalid => "INVALID_TOKEN",
        };
        Self::new(StatusCode::UNAUTHORIZED, code, error.to_string())
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let refuse =
        |code, message: &'static str| Err(Problem::new(StatusCode::UNAUTHORIZED, code, message));
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let first = values.next().map(|value| value.to_str());
    let text = match (first, values.next()) {
        (None, _) => "",
        (Some(Ok(text)), None) => text,
        _ => return refuse("INVALID_TOKEN_FORMAT", "Authorization header is malformed"),
    };
    let parts: Vec<&str> = text.split_ascii_whitespace().collect();
    match parts.as_slice() {
        [] => refuse("UNAUTHORIZED", "Authentication required"),
        [scheme] if scheme.eq_ignore_ascii_case("bearer") => {
            refuse("UNAUTHORIZED", "Authentication required")
        }
        [scheme, token] if scheme.eq_ignore_ascii_case("bearer") => Ok(token),
        _ => refuse(
            "INVALID_TOKEN_FORMAT",
            "Authorization header must be: Bearer <token>",
        ),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// Contract, appendix A.
    const VECTOR: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VySWQiOiIwYjBmN2M1Mi02ZjBlLTRkNWUtOWQwYS0zZjZhM2IxYzJkNGUiLCJlbWFpbCI6ImFubkBleGFtcGxlLmNvbSIsImlhdCI6MTc2NzIyNTYwMCwiZXhwIjoxNzY3MjI2NTAwfQ.Ec4dyFP2eDotXo6lH3Pt7iXRTzOzmQFRz_ZNzt2dnlI";

    #[test]
    fn a_token_of_an_earlier_generation_verifies() {
        // Its signature is right; by now its time is over.
        assert_eq!(
            verify(&Secret::new("hub-access"), VECTOR),
            Err(TokenError::Expired)
        );
        assert_eq!(
            verify(&Secret::new("other"), VECTOR),
            Err(TokenError::Invalid)
        );
        assert_eq!(verify(&Secret::new(""), VECTOR), Err(TokenError::Invalid));
    }

    #[test]
    fn signs_what_it_verifies_and_never_the_same_twice() {
        let secret = Secret::new("a secret of the test");
        let claims = Claims {
            user: UserId(Uuid::from_u128(7)),
            email: "ann@example.com".to_owned(),
        };
        let ttl = Duration::from_secs(60);
        let one = sign(&secret, &claims, Utc::now(), ttl).unwrap();
        let two = sign(&secret, &claims, Utc::now(), ttl).unwrap();
        assert_ne!(one, two);
        assert_eq!(verify(&secret, &one), Ok(claims.clone()));
        let past = Utc::now() - ttl - Duration::from_secs(2);
        let old = sign(&secret, &claims, past, ttl).unwrap();
        assert_eq!(verify(&secret, &old), Err(TokenError::Expired));
        assert!(sign(&Secret::default(), &claims, Utc::now(), ttl).is_none());
    }

    #[test]
    fn the_header_has_exactly_two_parts() {
        let code = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(text));
            bearer(&headers).map(str::to_owned).map_err(|it| it.code())
        };
        assert_eq!(
            bearer(&HeaderMap::new()).unwrap_err().code(),
            "UNAUTHORIZED"
        );
        assert_eq!(code(""), Err("UNAUTHORIZED"));
        assert_eq!(code("bearer"), Err("UNAUTHORIZED"));
        assert_eq!(code("Bearer "), Err("UNAUTHORIZED"));
        assert_eq!(code("Basic YTpi"), Err("INVALID_TOKEN_FORMAT"));
        assert_eq!(code("token"), Err("INVALID_TOKEN_FORMAT"));
        assert_eq!(code("Bearer a b"), Err("INVALID_TOKEN_FORMAT"));
        assert_eq!(code("bEARER abc"), Ok("abc".to_owned()));
    }
}
