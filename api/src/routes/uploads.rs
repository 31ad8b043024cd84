//! Uploads: files that a person sends with a message.
//!
//! A file is known by its content, of a kind that may be sent (`hub_domain::media`), and kept sealed
//! like everything else of its owner. That it was uploaded is in the log before it is kept, so that a
//! crash between the two leaves an upload without a file, which cannot be sent, and no file that
//! nobody would remove. One that no message has after a day is removed by a worker.
//!
//! With an `Idempotency-Key` the same file comes once, whatever became of the first answer; another
//! file under the same key is refused.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use futures::stream;
use hub_domain::envelope::{Append, Recorded};
use hub_domain::event::{Attached, Event, MediaUploaded, MessageType};
use hub_domain::id::{ObjectId, Place, UserId, upload_id, uploaded_key};
use hub_domain::limits::{UPLOAD_AGE_MAX, UPLOADS_AT_ONCE_MAX};
use hub_domain::media::{content_type, file_name, is_sendable};
use hub_domain::platform::fact::{ContentKind, Media};
use hub_store::Store;
use hub_store::append::Appended;
use hub_store::objects::Found;
use hub_store::vault::{Opened, Sealer};
use serde_json::json;
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::send::idempotency_key;
use crate::Api;
use crate::auth::Caller;
use crate::error::{Failing, Problem};
use crate::input::{drain, read_body_within};
use crate::openapi::{answer as answers, ask};
use crate::view::timestamp;

const UPLOADING: Failing = Failing::retryable("UPLOAD_FAILED", "Failed to keep the file");

/// What a form has beside its file.
const FORM_BYTES: usize = 16 * 1024;

static TURNS: Semaphore = Semaphore::const_new(UPLOADS_AT_ONCE_MAX);

/// The route.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(upload))
}

/// A file as it came.
struct Uploaded {
    name: String,
    content_type: &'static str,
    bytes: Bytes,
}

#[utoipa::path(
    post,
    path = "/api/media",
    tag = "Messages",
    summary = "Upload a file to send",
    description = "Takes one file. Its `mediaUrl` goes into one message of the caller, within a day; \
        a file that no message has by then is removed. What it is, is what its content says.",
    security(("bearer" = [])),
    params(
        (
            "Idempotency-Key" = inline(Option<String>),
            Header,
            description = "The same key keeps the file once",
            min_length = 1,
            max_length = 255,
        ),
    ),
    request_body(content = ask::Upload, content_type = "multipart/form-data"),
    responses(
        (status = 201, description = "Kept", body = answers::Uploaded),
        (status = 400, description = "`VALIDATION_ERROR`: not one file, or an empty one"),
        (status = 408, description = "`VALIDATION_ERROR`: it took too long to arrive"),
        (status = 413, description = "`VALIDATION_ERROR`: larger than this installation takes"),
        (status = 415, description = "`VALIDATION_ERROR`: no form, or a file of a kind that cannot be sent"),
        (status = 422, description = "`IDEMPOTENCY_KEY_REUSED`: the key was used for another file"),
        (status = 500, description = "`UPLOAD_FAILED`"),
        (status = 503, description = "`TOO_MANY_UPLOADS`: others are uploading just now; \
            `UPLOAD_FAILED`: the same request may work in a moment"),
    ),
)]
async fn upload(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Problem> {
    let Ok(_turn) = TURNS.try_acquire() else {
        drain(request.into_body(), &headers).await;
        return Err(busy());
    };
    let settings = &api.settings().media;
    let most = settings.upload_bytes_max;
    let body = read_body_within(request, most + FORM_BYTES, settings.timeout).await?;
    let uploaded = Uploaded::read(&headers, body, most).await?;
    let key = idempotency_key(&headers)?;
    let user = caller.user;
    let object = match &key {
        Some(key) => upload_id(user, key),
        None => ObjectId(Uuid::now_v7()),
    };
    let store = api.store();
    let failed = |error| UPLOADING.because(error);
    let sealer = store.vault().content(user, Utc::now(), None).await;
    let Sealer::Under(day) = sealer.map_err(failed)? else {
        return Err(Problem::internal());
    };
    let described = json!([uploaded.described()]).to_string();
    let file = Attached {
        object,
        content_type: uploaded.content_type.to_owned(),
        size: uploaded.bytes.len() as u64,
        described: day.seal(&described),
    };
    let shard = store.sharding().of_user(user);
    let event = MediaUploaded {
        user,
        file: file.clone(),
    };
    let append = Append::one(shard, object, event).once(uploaded_key(object));
    let appended = store.append(append.because(caller.meta())).await;
    match appended.map_err(failed)? {
        Appended::New(place) => {
            let bytes = uploaded.bytes.to_vec();
            let objects = api.objects();
            let put = objects.put(user, object, &day, uploaded.content_type, bytes);
            put.await.map_err(failed)?;
            let kept = at(store, place).await.map_err(failed)?;
            let (_, at) = kept.ok_or_else(Problem::internal)?;
            Ok(answer(&api, user, &file, &uploaded.name, at))
        }
        Appended::Repeated(place) => repeated(&api, user, &uploaded, place).await,
    }
}

/// The same upload once more. What the first one did not get to is done now.
async fn repeated(
    api: &Api,
    user: UserId,
    uploaded: &Uploaded,
    place: Place,
) -> Result<Response, Problem> {
    let failed = |error| UPLOADING.because(error);
    let store = api.store();
    let first = at(store, place).await.map_err(failed)?;
    let Some((file, at)) = first else {
        return Err(reused());
    };
    let sealed = file.described.0.as_str();
    let keys = store.vault().keyring(user, [sealed]).await;
    let keys = keys.map_err(failed)?;
    let described = json!([uploaded.described()]).to_string();
    let is_same = file.content_type == uploaded.content_type
        && file.size == uploaded.bytes.len() as u64
        && keys.open(sealed).map_err(failed)? == Opened::Text(described);
    if !is_same {
        return Err(reused());
    }
    let found = api.objects().get(store.vault(), user, file.object).await;
    match found.map_err(failed)? {
        Found::File(_, bytes) if bytes == uploaded.bytes => {}
        Found::File(..) | Found::Erased => return Err(reused()),
        Found::Nothing => {
            let key = keys.key(sealed).map_err(failed)?.ok_or_else(reused)?;
            let (kind, bytes) = (uploaded.content_type, uploaded.bytes.to_vec());
            let put = api.objects().put(user, file.object, key, kind, bytes);
            put.await.map_err(failed)?;
        }
    }
    Ok(answer(api, user, &file, &uploaded.name, at))
}

/// The upload that the log has at this place, and when it was.
async fn at(store: &Store, place: Place) -> hub_store::Result<Option<(Attached, DateTime<Utc>)>> {
    let before = Place {
        position: place.position - 1,
        ..place
    };
    let mut events = hub_store::read::after(store.pool(), before, 1).await?;
    Ok(match events.pop() {
        Some(Recorded {
            event: Event::MediaUploaded(it),
            recorded_at,
            ..
        }) => Some((it.file, recorded_at)),
        _ => None,
    })
}

/// An upload of this person that may still be sent with a message; the problem says why there is
/// none.
pub(super) async fn usable(api: &Api, user: UserId, object: ObjectId) -> Result<Attached, Problem> {
    let failed = |error| UPLOADING.because(error);
    let store = api.store();
    let shard = store.sharding().of_user(user);
    let place = hub_store::read::place_of(store.pool(), shard, uploaded_key(object)).await;
    let place = place.map_err(failed)?.ok_or_else(unknown)?;
    let (file, at) = at(store, place)
        .await
        .map_err(failed)?
        .ok_or_else(unknown)?;
    if (Utc::now() - at)
        .to_std()
        .is_ok_and(|age| age >= UPLOAD_AGE_MAX)
    {
        return Err(expired());
    }
    // The answer to the upload may have been a failure.
    let about = api.objects().about(user, object).await;
    about.map_err(failed)?.ok_or_else(unknown)?;
    Ok(file)
}

impl Uploaded {
    async fn read(headers: &HeaderMap, body: Bytes, most: usize) -> Result<Self, Problem> {
        let form = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let boundary = form.and_then(|it| multer::parse_boundary(it).ok());
        let boundary = boundary.ok_or_else(|| {
            unsupported("The request must be a form with a file: multipart/form-data")
        })?;
        let malformed = |_| Problem::validation("The form is malformed");
        let whole = stream::once(async { Ok::<_, std::io::Error>(body) });
        let mut form = multer::Multipart::new(whole, boundary);
        let mut file = None;
        while let Some(field) = form.next_field().await.map_err(malformed)? {
            let Some(name) = field.file_name().map(str::to_owned) else {
                // A field of text: nobody asks for any.
                field.bytes().await.map_err(malformed)?;
                continue;
            };
            let bytes = field.bytes().await.map_err(malformed)?;
            if file.replace((name, bytes)).is_some() {
                return Err(Problem::validation("The form must have one file"));
            }
        }
        let (name, bytes) = file.ok_or_else(|| Problem::validation("The form has no file"))?;
        if bytes.is_empty() {
            return Err(Problem::validation("The file is empty"));
        }
        if bytes.len() > most {
            let message = format!("The file is larger than {most} bytes");
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "VALIDATION_ERROR",
                message,
            ));
        }
        let content_type = content_type(&bytes);
        if !is_sendable(content_type) {
            let message = format!("Files of this kind cannot be sent: {content_type}");
            return Err(unsupported(message));
        }
        Ok(Self {
            name: file_name(&name, content_type),
            content_type,
            bytes,
        })
    }

    /// In the words in which platforms describe media.
    fn described(&self) -> Media {
        Media {
            kind: Some(match kind_of(self.content_type) {
                MessageType::Image => ContentKind::Image,
                MessageType::Video => ContentKind::Video,
                MessageType::Text | MessageType::File => ContentKind::File,
            }),
            mime: Some(self.content_type.to_owned()),
            name: Some(self.name.clone()),
            size: Some(self.bytes.len() as u64),
            ..Media::default()
        }
    }
}

/// What a client shows a file of this type as.
pub(super) fn kind_of(content_type: &str) -> MessageType {
    match content_type.split('/').next() {
        Some("image") => MessageType::Image,
        Some("video") => MessageType::Video,
        _ => MessageType::File,
    }
}

fn answer(api: &Api, user: UserId, file: &Attached, name: &str, at: DateTime<Utc>) -> Response {
    let body = json!({
        "id": file.object,
        "mimeType": file.content_type,
        "size": file.size,
        "name": name,
        "messageType": kind_of(&file.content_type).name(),
        "mediaUrl": api.links().url(user, file.object, Utc::now()),
        "sendBefore": timestamp(at + UPLOAD_AGE_MAX),
    });
    (StatusCode::CREATED, Json(body)).into_response()
}

fn unsupported(message: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Problem::new(status, "VALIDATION_ERROR", message)
}

fn busy() -> Problem {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let message = "Too many files are being uploaded just now. Please try again.";
    Problem::new(status, "TOO_MANY_UPLOADS", message).retryable()
}

fn reused() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "IDEMPOTENCY_KEY_REUSED",
        "This Idempotency-Key was already used for another file",
    )
}

/// An address that is not of an upload of the caller; whose else it may be is nobody's business.
pub(super) fn unknown() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "MEDIA_NOT_FOUND",
        "mediaUrl must be the address of a file that you uploaded with POST /api/media",
    )
}

pub(super) fn expired() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "MEDIA_GONE",
        "The uploaded file has expired. Please upload it again.",
    )
}
