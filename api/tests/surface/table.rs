//! Every operation of the API with what the contract says of it. Whoever adds a route adds a line:
//! `walk.rs` fails for a route that is not here, and tries everything that is.

use std::fmt::Display;

use serde_json::{Value, json};

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Whoever has an access token.
    Token,
    /// Anybody.
    Open,
}

/// How errors are laid out (contract 1.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errors {
    /// The structured envelope.
    Structured,
    /// The same with the message beside it.
    WithMessage,
    /// Flat, but for 401 and 429.
    FlatList,
    /// Flat in any case.
    Telegram,
    /// Flat beside `success`, but for what surrounds every route, 401 and 429.
    Debug,
    /// Flat when the hub failed.
    FlatFailures,
    /// A platform reads them: `error` is a text and there may be no more.
    Webhook,
    /// In the words of Engine.IO, but for those that surround every route.
    EngineIo,
}

/// A field of a body. All of them are texts.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: &'static str,
    /// A good value.
    pub good: &'static str,
    /// Most characters it may have, where there is a limit.
    pub most: Option<usize>,
}

/// What becomes of a request's body.
#[derive(Clone, Copy, Debug)]
pub enum Reads {
    /// It is not read.
    Nothing,
    /// A JSON object with these fields.
    Object(&'static [Field]),
    /// Whatever it is.
    Raw,
}

/// What stands for `{id}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {
    Account,
    Conversation,
    Message,
}

/// An operation.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub guard: Guard,
    pub reads: Reads,
    pub errors: Errors,
    /// What its id is of, and what an id of nothing or of somebody else's answers.
    pub id: Option<(Id, u16, &'static str)>,
    /// What a platform answers that there is not.
    pub platform: Option<(u16, &'static str)>,
}

impl Route {
    const fn new(guard: Guard, method: &'static str, path: &'static str) -> Self {
        Self {
            method,
            path,
            guard,
            reads: Reads::Nothing,
            errors: Errors::Structured,
            id: None,
            platform: None,
        }
    }

    const fn reads(self, reads: Reads) -> Self {
        Self { reads, ..self }
    }

    const fn errors(self, errors: Errors) -> Self {
        Self { errors, ..self }
    }

    const fn id(self, of: Id, status: u16, code: &'static str) -> Self {
        let id = Some((of, status, code));
        Self { id, ..self }
    }

    const fn platform(self, status: u16, code: &'static str) -> Self {
        let platform = Some((status, code));
        Self { platform, ..self }
    }

    /// Its address, with this for the id and Facebook for the platform.
    pub fn at(&self, id: impl Display) -> String {
        let path = self
            .path
            .replace("{platform}", "facebook")
            .replace("{chat}", "777")
            .replace("{code}", "00");
        path.replace("{id}", &id.to_string())
    }

    /// A good body, if it reads an object.
    pub fn body(&self) -> Option<Value> {
        let Reads::Object(fields) = self.reads else {
            return None;
        };
        let fields = fields.iter().map(|it| (it.name.to_owned(), json!(it.good)));
        Some(Value::Object(fields.collect()))
    }
}

const fn token(method: &'static str, path: &'static str) -> Route {
    Route::new(Guard::Token, method, path)
}

const fn open(method: &'static str, path: &'static str) -> Route {
    Route::new(Guard::Open, method, path)
}

const fn field(name: &'static str, good: &'static str) -> Field {
    let most = None;
    Field { name, good, most }
}

const EMAIL: Field = Field {
    most: Some(255),
    ..field("email", "somebody@example.com")
};

const NEW_PASSWORD: Field = Field {
    most: Some(72),
    ..field("password", "correct horse")
};

const PASSWORD: Field = field("password", "not this one");

const REFRESH: Field = field("refreshToken", "not.a.token");

const CONTENT: Field = Field {
    most: Some(10_000),
    ..field("content", "hi")
};

const SENDING: &[Field] = &[CONTENT, field("messageType", "text"), field("mediaUrl", "")];

const WIDGET: &[Field] = &[field("state", "0123"), field("hash", "4567")];

const TO_CALLBACK: (u16, &str) = (400, "INVALID_PLATFORM");

/// Every operation.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    open("POST", "/api/auth/register").reads(Reads::Object(&[EMAIL, NEW_PASSWORD])),
    open("POST", "/api/auth/login").reads(Reads::Object(&[EMAIL, PASSWORD])),
    open("POST", "/api/auth/refresh").reads(Reads::Object(&[REFRESH])),
    open("POST", "/api/auth/logout").reads(Reads::Object(&[REFRESH])),
    token("GET", "/api/auth/me"),
    token("DELETE", "/api/auth/me").reads(Reads::Object(&[PASSWORD])),

    token("GET", "/api/oauth/connect/{platform}").platform(400, "INVALID_PLATFORM"),
    open("GET", "/api/oauth/callback/{platform}").platform(TO_CALLBACK.0, TO_CALLBACK.1),
    open("POST", "/api/oauth/callback/{platform}").reads(Reads::Raw).platform(TO_CALLBACK.0, TO_CALLBACK.1),
    open("GET", "/api/auth/callback/{platform}").platform(TO_CALLBACK.0, TO_CALLBACK.1),
    open("POST", "/api/auth/callback/{platform}").reads(Reads::Raw).platform(TO_CALLBACK.0, TO_CALLBACK.1),
    open("GET", "/api/oauth/callback/telegram"),
    open("GET", "/api/auth/callback/telegram"),
    token("POST", "/api/oauth/callback/telegram").reads(Reads::Object(WIDGET)).errors(Errors::WithMessage),
    token("POST", "/api/auth/callback/telegram").reads(Reads::Object(WIDGET)).errors(Errors::WithMessage),

    token("GET", "/api/oauth/accounts").errors(Errors::FlatFailures),
    token("GET", "/api/oauth/rate-limits"),
    token("DELETE", "/api/oauth/disconnect/{id}").id(Id::Account, 404, "ACCOUNT_NOT_FOUND"),
    token("POST", "/api/oauth/refresh/{id}").id(Id::Account, 404, "ACCOUNT_NOT_FOUND"),

    token("GET", "/api/conversations").errors(Errors::FlatList),
    token("GET", "/api/conversations/{id}").id(Id::Conversation, 404, "CONVERSATION_NOT_FOUND"),
    token("GET", "/api/messages"),
    token("GET", "/api/messages/unread/count"),
    token("GET", "/api/messages/{id}").id(Id::Conversation, 403, "FORBIDDEN"),
    token("POST", "/api/messages/{id}/send").reads(Reads::Object(SENDING)).id(Id::Conversation, 404, "CONVERSATION_NOT_FOUND"),
    token("PATCH", "/api/messages/{id}/read").id(Id::Message, 404, "MESSAGE_NOT_FOUND"),
    token("PATCH", "/api/messages/conversation/{id}/read").id(Id::Conversation, 404, "CONVERSATION_NOT_FOUND"),
    token("POST", "/api/messages/sync").reads(Reads::Object(&[field("since", "2026-01-02T03:04:05Z")])),
    token("POST", "/api/messages/poll/{id}").id(Id::Account, 404, "ACCOUNT_NOT_FOUND"),
    token("GET", "/api/messages/debug/twitter/{id}").id(Id::Account, 404, "ACCOUNT_NOT_FOUND"),
    token("POST", "/api/debug/polling/{id}").errors(Errors::Debug).id(Id::Account, 404, "ACCOUNT_NOT_FOUND"),
    token("GET", "/api/debug/polling/stats").errors(Errors::Debug),
    token("GET", "/api/debug/instagram-config").errors(Errors::Debug),

    token("POST", "/api/telegram/auth/phone").reads(Reads::Object(&[field("phoneNumber", "+15551234567")])).errors(Errors::Telegram),
    token("POST", "/api/telegram/auth/verify").reads(Reads::Object(&[field("phoneNumber", "+15551234567"), field("phoneCode", "1"), field("phoneCodeHash", "x")])).errors(Errors::Telegram),
    token("GET", "/api/telegram/{id}/dialogs").errors(Errors::Telegram).id(Id::Account, 404, "ACCOUNT_NOT_FOUND"),
    token("GET", "/api/telegram/{id}/messages/{chat}").errors(Errors::Telegram).id(Id::Account, 404, "ACCOUNT_NOT_FOUND"),
    token("POST", "/api/telegram/{id}/send/{chat}").reads(Reads::Object(&[field("text", "hi")])).errors(Errors::Telegram).id(Id::Account, 404, "ACCOUNT_NOT_FOUND"),
    token("POST", "/api/telegram/{id}/sync").errors(Errors::Telegram).id(Id::Account, 404, "ACCOUNT_NOT_FOUND"),
    token("POST", "/api/telegram/{id}/reset").errors(Errors::Telegram).id(Id::Account, 404, "ACCOUNT_NOT_FOUND"),

    token("POST", "/api/media").reads(Reads::Raw),
    // A bad signature, whatever the id.
    open("GET", "/api/media/{id}").id(Id::Message, 403, "FORBIDDEN"),

    open("GET", "/ws/messages"),
    open("GET", "/socket.io").errors(Errors::EngineIo),
    open("POST", "/socket.io").errors(Errors::EngineIo),

    open("GET", "/api/webhooks/{platform}").errors(Errors::Webhook).platform(404, "NOT_FOUND"),
    open("POST", "/api/webhooks/{platform}").reads(Reads::Raw).errors(Errors::Webhook).platform(404, "NOT_FOUND"),

    open("POST", "/api/webhooks/{platform}/deauthorize").reads(Reads::Raw).errors(Errors::Webhook).platform(404, "NOT_FOUND"),
    open("POST", "/api/webhooks/{platform}/delete").reads(Reads::Raw).errors(Errors::Webhook).platform(404, "NOT_FOUND"),
    open("GET", "/api/deletion/{code}"),

    open("GET", "/health"),
    open("GET", "/metrics"),
    open("GET", "/api/csrf-token"),
    open("GET", "/api/openapi.json"),
];

/// Those that ask for a token.
pub fn guarded() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| route.guard == Guard::Token)
}
