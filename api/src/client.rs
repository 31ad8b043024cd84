//! The built web client, served from `STATIC_DIR` in place of the hub's own page (contract 1.1).
//!
//! The folder is read once, when the API starts: what is served belongs together, no request
//! touches the file system, and no path or link leads out of the folder. A link that does is
//! refused at the start. Every address that is nobody else's answers with `index.html`, because
//! the client's routes exist only in the browser.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

use crate::error::{Problem, wrong_method};

/// More than any built client has; a folder with more was not meant.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

const INDEX: &str = "index.html";

/// What the hub answers itself, also when it has nothing there.
const RESERVED: [&str; 4] = ["/api", "/ws", "/socket.io", "/health"];

/// Why a folder cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The folder or something in it cannot be read.
    #[error("STATIC_DIR: {0} cannot be read: {1}")]
    Unreadable(PathBuf, #[source] io::Error),
    /// It is not a built client.
    #[error("STATIC_DIR: {0} has no index.html; is it the folder of a built client?")]
    NoIndex(PathBuf),
    /// A link leads elsewhere.
    #[error("STATIC_DIR: {0} is a link that leads out of the folder")]
    LeadsOut(PathBuf),
    /// It is no client.
    #[error("STATIC_DIR: there are more than {BYTES_MAX} bytes in it")]
    TooLarge,
}

/// A built client, in memory.
#[derive(Debug)]
pub struct Client {
    /// By address, decoded, with the leading slash.
    files: HashMap<String, File>,
    policy: HeaderValue,
}

#[derive(Debug)]
struct File {
    content: Bytes,
    content_type: &'static str,
    etag: HeaderValue,
    /// The name changes whenever the content does.
    is_hashed: bool,
}

impl Client {
    /// Reads a folder. `api` is the address the client may also reach the hub by.
    pub fn read(folder: &Path, api: &str) -> Result<Self, ClientError> {
        let root = folder
            .canonicalize()
            .map_err(|error| ClientError::Unreadable(folder.to_owned(), error))?;
        let mut files = HashMap::new();
        collect(&root, &root, "", &mut 0, &mut files)?;
        if !files.contains_key(&format!("/{INDEX}")) {
            return Err(ClientError::NoIndex(folder.to_owned()));
        }
        let policy = HeaderValue::try_from(policy(api))
            .map_err(|error| ClientError::Unreadable(folder.to_owned(), io::Error::other(error)))?;
        Ok(Self { files, policy })
    }

    /// Answers what no route did.
    pub(crate) fn answer(&self, request: &Request) -> Response {
        let path = request.uri().path();
        let is_under = |prefix: &&str| {
            let rest = path.strip_prefix(*prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if RESERVED.iter().any(is_under) {
            return Problem::nowhere().into_response();
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return wrong_method().allowing("GET,HEAD").into_response();
        }
        let decoded = percent_decode_str(path).decode_utf8_lossy();
        let found = self.files.get(decoded.as_ref());
        let Some(file) = found.or_else(|| self.files.get("/index.html")) else {
            return Problem::nowhere().into_response();
        };
        self.give(file, request)
    }

    fn give(&self, file: &File, request: &Request) -> Response {
        let caching = match file.is_hashed {
            true => "public, max-age=31536000, immutable",
            // The next build may bring others: ask, and be told that it is the same.
            false => "no-cache",
        };
        let mut headers = HeaderMap::new();
        let mut put = |name: HeaderName, value| headers.insert(name, value);
        put(CACHE_CONTROL, HeaderValue::from_static(caching));
        put(ETAG, file.etag.clone());
        put(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if is_known(request.headers(), &file.etag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        put(CONTENT_TYPE, HeaderValue::from_static(file.content_type));
        put(CONTENT_LENGTH, HeaderValue::from(file.content.len()));
        if file.content_type == HTML {
            put(CONTENT_SECURITY_POLICY, self.policy.clone());
            let referrer = HeaderValue::from_static("strict-origin-when-cross-origin");
            put(REFERRER_POLICY, referrer);
        }
        let body = match *request.method() {
            Method::HEAD => Body::empty(),
            _ => Body::from(file.content.clone()),
        };
        (headers, body).into_response()
    }
}

/// Whether the caller has this very content already.
pub(crate) fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let given = headers.get_all(IF_NONE_MATCH).iter();
    let given = given.filter_map(|value| value.to_str().ok());
    let mut tags = given.flat_map(|text| text.split(',')).map(str::trim);
    // Whoever compresses on the way makes our tag a weak one.
    tags.any(|tag| tag == "*" || tag.trim_start_matches("W/").as_bytes() == etag.as_bytes())
}

fn collect(
    root: &Path,
    folder: &Path,
    address: &str,
    bytes: &mut u64,
    files: &mut HashMap<String, File>,
) -> Result<(), ClientError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |error| ClientError::Unreadable(path, error)
    };
    for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        // `.well-known` is meant to be seen; other hidden files (`.git`, `.env`) are not.
        if name.starts_with('.') && name != ".well-known" {
            continue;
        }
        let real = path.canonicalize().map_err(unreadable(&path))?;
        // A link to where it is, or above, would go round in circles.
        let goes_down = real.starts_with(folder) && real != folder;
        let goes_round = real.is_dir() && !goes_down;
        if !real.starts_with(root) || goes_round {
            return Err(ClientError::LeadsOut(path));
        }
        let address = format!("{address}/{name}");
        if real.is_dir() {
            collect(root, &real, &address, bytes, files)?;
            continue;
        }
        let metadata = fs::metadata(&real).map_err(unreadable(&path))?;
        if !metadata.is_file() {
            continue;
        }
        *bytes += metadata.len();
        if *bytes > BYTES_MAX {
            return Err(ClientError::TooLarge);
        }
        let content = fs::read(&real).map_err(unreadable(&path))?;
        let digest = hex::encode(&Sha256::digest(&content)[..12]);
        let etag = HeaderValue::try_from(format!("\"{digest}\""));
        let file = File {
            content: content.into(),
            content_type: content_type(name),
            etag: etag.unwrap_or(HeaderValue::from_static("\"\"")),
            is_hashed: is_hashed(&address),
        };
        files.insert(address, file);
    }
    Ok(())
}

const HTML: &str = "text/html; charset=utf-8";

/// What a browser is told a file is; it may not guess.
fn content_type(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => HTML,
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        _ => "application/octet-stream",
    }
}

/// Whether a bundler named the file after its content: `assets/index-BxY1abcd.js`,
/// `static/js/main.1a2b3c4d.js`. A word (`logo-horizontal.svg`) or a date is no hash; to take a hash
/// for a word only costs a question.
fn is_hashed(address: &str) -> bool {
    let mut folders = address.split('/');
    let name = folders.next_back().unwrap_or_default();
    let is_bundled = folders.any(|folder| matches!(folder, "assets" | "static"));
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let mut tails = stem
        .match_indices(['-', '.'])
        .map(|(at, _)| &stem[at + 1..])
        .flat_map(|tail| [tail, tail.split('.').next().unwrap_or_default()]);
    is_bundled && tails.any(looks_like_a_hash)
}

fn looks_like_a_hash(text: &str) -> bool {
    let count = |of: fn(&u8) -> bool| text.bytes().filter(of).count();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (8..=64).contains(&text.len())
        && text.bytes().all(is_name)
        && count(u8::is_ascii_alphabetic) > 0
        && (count(u8::is_ascii_digit) > 0 || count(u8::is_ascii_uppercase) > 1)
}

/// What a page of the client may do. Telegram's login widget is a script from there that calls back
/// by evaluating a text, and a frame; platforms host pictures and media anywhere, and media of
/// messages are at the hub's public address, which need not be the one the page was opened at. `ws:`
/// and `wss:` are spelled out because some browsers do not count them to `'self'`. Nothing upgrades a plain
/// HTTP installation.
fn policy(api: &str) -> String {
    format!(
        "default-src 'self'; script-src 'self' 'unsafe-eval' https://telegram.org; \
         style-src 'self' 'unsafe-inline'; img-src 'self' {api} https: data: blob:; \
         media-src 'self' {api} https: data: blob:; font-src 'self' data:; \
         connect-src 'self' {api} ws: wss:; \
         frame-src https://telegram.org https://oauth.telegram.org; frame-ancestors 'none'; \
         object-src 'none'; base-uri 'self'; form-action 'self'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_bundlers_are_told_from_words() {
        for hashed in [
            "/assets/index-BxY1abcd.js",
            "/assets/index-D-x_Ab12.css",
            "/static/js/main.1a2b3c4d.js",
            "/static/js/main.1a2b3c4d.chunk.js",
            "/app/assets/logo-DkLmQwEr.svg",
        ] {
            assert!(is_hashed(hashed), "{hashed}");
        }
        for plain in [
            "/index.html",
            "/index-BxY1abcd.js",
            "/assets/logo-horizontal.svg",
            "/assets/photo-20260131.jpg",
            "/assets/index.js",
            "/assets/a-1.js",
        ] {
            assert!(!is_hashed(plain), "{plain}");
        }
    }

    #[test]
    fn a_tag_is_known_in_each_of_its_forms() {
        let etag = HeaderValue::from_static("\"abc\"");
        let known = |value| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static(value));
            is_known(&headers, &etag)
        };
        assert!(known("\"abc\"") && known("W/\"abc\"") && known("\"x\", \"abc\"") && known("*"));
        assert!(!known("\"abcd\"") && !known("abc") && !known(""));
        assert!(!is_known(&HeaderMap::new(), &etag));
    }
}
