//! What the Graph API does for every Meta platform: errors, usage headers, tokens, signed webhooks.
//!
//! Tokens are derived from the app secret instead of remembered, so they stay valid when the
//! sandbox restarts under a hub that has stored them.

mod login;
pub(super) mod threads;

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::call::Call;
use crate::deliver::Webhook;
use crate::faults::Fault;
use crate::sign::hmac_hex;

pub(super) use login::Login;

/// A PNG of one pixel: what people send here.
pub(super) const PICTURE: &[u8] = b"\
    \x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x01\x00\
    \x00\x00\x01\x08\x02\x00\x00\x00\x90\x77\x53\xde\x00\x00\x00\x0c\x49\x44\x41\x54\x78\
    \x9c\x63\xd0\xcf\xef\x07\x00\x01\xfe\x01\x2e\x1c\x60\x3a\x30\x00\x00\x00\x00\x49\x45\
    \x4e\x44\xae\x42\x60\x82";

/// Hex digits of the signature inside a token.
const TOKEN_MAC_DIGITS: usize = 32;

/// Meta's messaging products. Each has its own app, tokens and codes, by which a call is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Product {
    /// Messenger for Pages.
    Messenger,
    /// Instagram messaging, with either login.
    Instagram,
    /// WhatsApp Cloud API.
    Whatsapp,
}

impl Product {
    const ALL: [Self; 3] = [Self::Messenger, Self::Instagram, Self::Whatsapp];

    /// The platform's name in the hub's words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Messenger => "facebook",
            Self::Instagram => "instagram",
            Self::Whatsapp => "whatsapp",
        }
    }

    /// Its name in usage headers.
    fn usage(self) -> &'static str {
        match self {
            Self::Messenger => "messenger",
            Self::Instagram => "instagram",
            Self::Whatsapp => "whatsapp",
        }
    }

    /// What its codes begin with; the rest is lower case.
    fn code(self) -> &'static str {
        match self {
            Self::Messenger => "AQ",
            Self::Instagram => "AQI",
            Self::Whatsapp => "AQW",
        }
    }

    /// What its tokens begin with.
    fn token(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::Messenger, _) => "EAAG",
            (Self::Instagram, Kind::Account) => "IGAA",
            (Self::Instagram, _) => "EAAI",
            (Self::Whatsapp, _) => "EAAJ",
        }
    }

    fn of_token(token: &str) -> Option<Self> {
        match token.get(..4)? {
            "EAAG" => Some(Self::Messenger),
            "EAAI" | "IGAA" => Some(Self::Instagram),
            "EAAJ" => Some(Self::Whatsapp),
            _ => None,
        }
    }

    /// The product a call is about: its token or code tells, or what the dialog asks for.
    pub(super) fn of(call: &Call) -> Option<Self> {
        let params = ["input_token", "fb_exchange_token", "access_token"];
        let given = params.iter().filter_map(|name| call.param(name));
        let bearer = call.bearer().map(str::to_owned);
        if let Some(product) = bearer
            .into_iter()
            .chain(given)
            .find_map(|it| Self::of_token(&it))
        {
            return Some(product);
        }
        if let Some(code) = call.param("code") {
            let longest_first = Self::ALL.into_iter().rev();
            return longest_first
                .into_iter()
                .find(|product| code.starts_with(product.code()));
        }
        let scope = call.param("scope")?;
        if scope.contains("instagram_") {
            Some(Self::Instagram)
        } else if scope.contains("whatsapp_") {
            Some(Self::Whatsapp)
        } else {
            None
        }
    }
}

/// What a token lets its bearer do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A person's token of an hour or two.
    ShortUser,
    /// A person's token of sixty days.
    LongUser,
    /// A Page's token; does not expire.
    Page,
    /// The token of an account with a login of its own (Instagram).
    Account,
}

/// The meaning of an access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) product: Product,
    /// The Page the person granted, or whatever accounts are at the product.
    pub(super) page: String,
    /// The authorisation it comes from; taking that back kills all of its tokens.
    pub(super) grant: String,
}

impl Token {
    /// The token as the platform hands it out.
    pub(super) fn mint(&self, app_secret: &str) -> String {
        let letter = match self.kind {
            Kind::ShortUser => 'S',
            Kind::LongUser => 'L',
            Kind::Page => 'P',
            Kind::Account => 'A',
        };
        let claim = hex::encode(format!("{letter} {} {}", self.grant, self.page));
        let prefix = self.product.token(self.kind);
        format!("{prefix}{claim}{}", seal(app_secret, &claim))
    }

    /// The meaning of a token this app has handed out, now or before a restart.
    pub(super) fn read(app_secret: &str, token: &str) -> Option<Self> {
        let product = Product::of_token(token)?;
        let sealed = token.get(4..)?;
        let (claim, mac) = sealed.split_at_checked(sealed.len().checked_sub(TOKEN_MAC_DIGITS)?)?;
        if seal(app_secret, claim) != mac {
            return None;
        }
        let claim = String::from_utf8(hex::decode(claim).ok()?).ok()?;
        let mut parts = claim.splitn(3, ' ');
        let kind = match parts.next()? {
            "S" => Kind::ShortUser,
            "L" => Kind::LongUser,
            "P" => Kind::Page,
            "A" => Kind::Account,
            _ => return None,
        };
        let grant = parts.next()?.to_owned();
        Some(Self {
            kind,
            product,
            grant,
            page: parts.next()?.to_owned(),
        })
    }
}

fn seal(app_secret: &str, claim: &str) -> String {
    let mut mac = hmac_hex(app_secret.as_bytes(), format!("token {claim}").as_bytes());
    mac.truncate(TOKEN_MAC_DIGITS);
    mac
}

/// A Graph error: the numbers adapters classify by, and words.
pub(super) struct GraphError {
    status: u16,
    code: u32,
    subcode: Option<u32>,
    message: String,
}

/// An answer, or the platform's refusal.
pub(super) type Answer = Result<Response, GraphError>;

impl GraphError {
    /// An error of HTTP status 400, which most are whatever their class.
    pub(super) fn new(code: u32, message: impl Into<String>) -> Self {
        Self {
            status: 400,
            code,
            subcode: None,
            message: message.into(),
        }
    }

    /// The same with a subcode.
    pub(super) fn sub(self, subcode: u32) -> Self {
        Self {
            subcode: Some(subcode),
            ..self
        }
    }
}

impl IntoResponse for GraphError {
    fn into_response(self) -> Response {
        let mut error = json!({
            "message": self.message,
            "type": "OAuthException",
            "code": self.code,
            "is_transient": self.status >= 500,
            "fbtrace_id": format!("A{}", &uuid::Uuid::new_v4().simple().to_string()[..20]),
        });
        if let Some(subcode) = self.subcode {
            error["error_subcode"] = subcode.into();
        }
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        reply(status, &json!({"error": error}))
    }
}

/// The object is not there, or not for this token. One answer, so that nobody can tell.
pub(super) fn not_found(id: &str) -> GraphError {
    let message = format!(
        "Unsupported request. Object with ID '{id}' does not exist, cannot be loaded due to \
         missing permissions, or does not support this operation."
    );
    GraphError::new(100, message).sub(33)
}

/// There is nothing of this kind at all.
pub(super) fn unknown_path(path: &[&str]) -> GraphError {
    let words = format!("Unknown path components: /{}", path.join("/"));
    GraphError::new(2500, words)
}

/// An answer without usage headers.
pub(super) fn reply(status: StatusCode, body: &Value) -> Response {
    let kind = "text/javascript; charset=UTF-8";
    let body = ascii(&body.to_string());
    (status, [(header::CONTENT_TYPE, kind)], body).into_response()
}

/// Success, with the usage headers of an app that is nowhere near its limits.
pub(super) fn ok(business: &str, body: &Value) -> Response {
    let mut answer = reply(StatusCode::OK, body);
    let app = json!({"call_count": 2, "total_time": 1, "total_cputime": 1});
    set(&mut answer, "x-app-usage", &app.to_string());
    let business = usage(business, Product::Messenger, 2, 0);
    set(&mut answer, "x-business-use-case-usage", &business);
    answer
}

/// How long a call that nobody answers is kept open.
pub(super) const HANG: Duration = Duration::from_secs(60);

/// What becomes of a call that a fault strikes before anything has happened.
pub(super) async fn suffer(fault: Fault, product: Product, app_id: &str, call: &Call) -> Response {
    match fault {
        Fault::Status {
            status,
            retry_after_s,
        } => refuse(product, app_id, status, retry_after_s),
        Fault::Hang | Fault::AcceptNoReply => call.leave_unanswered(HANG).await,
    }
}

/// What the platform says when a fault makes it refuse with this status.
pub(super) fn refuse(
    product: Product,
    business: &str,
    status: u16,
    retry_after_s: Option<u64>,
) -> Response {
    let error = match (product, status) {
        (Product::Whatsapp, _) => whatsapp_error(status),
        (Product::Instagram, 403) => window(2_534_022),
        _ => error_of(status),
    };
    let mut answer = GraphError { status, ..error }.into_response();
    if status == 429 {
        // The platform counts in whole minutes; `Retry-After` is only there when asked for.
        let minutes = retry_after_s.unwrap_or(60).div_ceil(60);
        let usage = usage(business, product, 100, minutes);
        set(&mut answer, "x-business-use-case-usage", &usage);
    }
    if let Some(seconds) = retry_after_s {
        set(&mut answer, "retry-after", &seconds.to_string());
    }
    answer
}

fn window(subcode: u32) -> GraphError {
    GraphError::new(10, "(#10) This message is sent outside of allowed window.").sub(subcode)
}

fn error_of(status: u16) -> GraphError {
    match status {
        429 => GraphError::new(
            613,
            "(#613) Calls to this api have exceeded the rate limit.",
        ),
        401 => GraphError::new(190, "Error validating access token: Session has expired.").sub(463),
        403 => window(2_018_278),
        404 => not_found("0"),
        500.. => GraphError::new(2, "An unexpected error has occurred. Please retry later."),
        _ => GraphError::new(100, "(#100) Invalid parameter"),
    }
}

/// The same in WhatsApp's numbers.
fn whatsapp_error(status: u16) -> GraphError {
    match status {
        429 => GraphError::new(130_429, "(#130429) Rate limit hit"),
        423 => GraphError::new(
            131_056,
            "(#131056) (Business Account, Consumer Account) pair rate limit hit",
        ),
        403 => GraphError::new(131_047, "(#131047) Re-engagement message"),
        500.. => GraphError::new(131_000, "(#131000) Something went wrong"),
        400 => GraphError::new(131_009, "(#131009) Parameter value is not valid"),
        _ => error_of(status),
    }
}

fn usage(business: &str, product: Product, percent: u32, minutes: u64) -> String {
    json!({business: [{
        "type": product.usage(),
        "call_count": percent,
        "total_cputime": percent / 4,
        "total_time": percent / 4,
        "estimated_time_to_regain_access": minutes,
    }]})
    .to_string()
}

fn set(answer: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
}

/// Whether a path begins with an API version, as every Graph path must.
pub(super) fn is_versioned(call: &Call) -> bool {
    let segments = call.segments();
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    segments
        .first()
        .and_then(|version| version.strip_prefix('v')?.split_once('.'))
        .is_some_and(|(major, minor)| number(major) && number(minor))
}

/// The method a caller means: Graph lets a POST say `method=delete`.
pub(super) fn method(call: &Call) -> Method {
    match call.param("method") {
        Some(name) if call.method == Method::POST && name.eq_ignore_ascii_case("delete") => {
            Method::DELETE
        }
        _ => call.method.clone(),
    }
}

/// A webhook as Meta signs it, over exactly the bytes that are sent.
pub(super) fn webhook(
    platform: &'static str,
    path: &'static str,
    app_secret: &str,
    body: &Value,
) -> Webhook {
    let body = escape(body);
    let signature = format!(
        "sha256={}",
        hmac_hex(app_secret.as_bytes(), body.as_bytes())
    );
    Webhook {
        platform,
        path,
        headers: vec![
            ("x-hub-signature-256", signature),
            ("user-agent", "facebookexternalua".to_owned()),
        ],
        body: Bytes::from(body),
    }
}

/// JSON as Meta writes it: ASCII only, and slashes escaped. A receiver that parses and serialises
/// again gets other bytes and therefore another signature.
pub(super) fn escape(body: &Value) -> String {
    ascii(&body.to_string()).replace('/', "\\/")
}

/// JSON with everything beyond ASCII as `\uXXXX`, in lower case, by UTF-16 unit.
pub(super) fn ascii(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    let mut units = [0; 2];
    for letter in json.chars() {
        if letter.is_ascii() {
            escaped.push(letter);
            continue;
        }
        for unit in letter.encode_utf16(&mut units) {
            escaped.push_str(&format!("\\u{unit:04x}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_like_meta() {
        let body = json!({"text": "Grüße ☕ 😀 https://shop.example/a \"\\\" \u{1f}"});
        let escaped = escape(&body);
        assert_eq!(
            escaped,
            r#"{"text":"Gr\u00fc\u00dfe \u2615 \ud83d\ude00 https:\/\/shop.example\/a \"\\\" \u001f"}"#
        );
        assert_eq!(serde_json::from_str::<Value>(&escaped).unwrap(), body);
    }

    #[test]
    fn a_token_means_what_it_was_minted_for_and_nothing_else() {
        let token = Token {
            kind: Kind::Page,
            product: Product::Messenger,
            page: "104857600112233".into(),
            grant: "g1".into(),
        };
        let minted = token.mint("secret");
        assert!(minted.starts_with("EAAG") && minted.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_eq!(Token::read("secret", &minted), Some(token));
        assert_eq!(Token::read("other", &minted), None);
        assert_eq!(Token::read("secret", &minted[..minted.len() - 1]), None);
        assert_eq!(Token::read("secret", "EAAGé"), None);
        assert_eq!(Token::read("secret", ""), None);
    }
}
