//! What the bytes of a medium are, by their content alone: what a platform says of them is not
//! trusted, because a browser will be shown them under the hub's own name.

use crate::limits::FILE_NAME_CHARS_MAX;
use crate::platform::fact::ContentKind;

/// What nobody recognises.
const UNKNOWN: &str = "application/octet-stream";

/// How much of the beginning decides.
const HEAD_BYTES: usize = 1024;

/// Where a pattern begins, the pattern, and what the bytes are then.
const MAGIC: &[(usize, &[u8], &str)] = &[
    (0, b"\xFF\xD8\xFF", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1A\n", "image/png"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (8, b"WAVE", "audio/wav"),
    (4, b"ftypM4A", "audio/mp4"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftypmif1", "image/heic"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1A\x45\xDF\xA3", "video/webm"),
    (0, b"OggS", "audio/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xFF\xFB", "audio/mpeg"),
    (0, b"\xFF\xF3", "audio/mpeg"),
    (0, b"\xFF\xF1", "audio/aac"),
    (0, b"#!AMR", "audio/amr"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"\x1F\x8B", "application/gzip"),
];

/// What a browser may show by itself. Nothing here can carry a script.
const SHOWN: &[&str] = &[
    "image/jpeg",
    "image/png",
    "image/gif",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/quicktime",
    "video/webm",
    "audio/wav",
    "audio/mp4",
    "audio/ogg",
    "audio/mpeg",
    "audio/aac",
];

/// The MIME type of these bytes.
pub fn content_type(bytes: &[u8]) -> &'static str {
    let begins = |at: usize, magic: &[u8]| bytes.get(at..).is_some_and(|it| it.starts_with(magic));
    let found = MAGIC.iter().find(|(at, magic, _)| begins(*at, magic));
    match found {
        Some((_, _, found)) => found,
        None => text_type(bytes),
    }
}

fn text_type(bytes: &[u8]) -> &'static str {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return UNKNOWN;
    };
    if text.contains('\0') {
        return UNKNOWN;
    }
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let has = |mark: &str| head.contains(mark);
    if has("<svg") {
        "image/svg+xml"
    } else if has("<!doctype html") || has("<html") || has("<script") || has("<body") {
        "text/html"
    } else if head.trim_start().starts_with("<?xml") {
        "application/xml"
    } else {
        "text/plain"
    }
}

/// Whether bytes of this type can be what the message said they are.
pub fn fits(kind: Option<ContentKind>, content_type: &str) -> bool {
    let (family, _) = content_type.split_once('/').unwrap_or_default();
    match kind {
        Some(ContentKind::Image) => family == "image",
        Some(ContentKind::Video) => family == "video",
        Some(ContentKind::Animation) => family == "video" || content_type == "image/gif",
        // Voice notes come in containers that are made for films.
        Some(ContentKind::Audio | ContentKind::Voice) => matches!(family, "audio" | "video"),
        // Moving ones are films, or drawings in a gzip file.
        Some(ContentKind::Sticker) => {
            matches!(family, "image" | "video") || content_type == "application/gzip"
        }
        _ => true,
    }
}

/// Whether a browser may show it by itself; what it may not is handed over as a file.
pub fn is_shown(content_type: &str) -> bool {
    SHOWN.contains(&content_type)
}

/// Whether a person may send it: what is known by its content, and carries no script that a browser
/// on the other side might run.
pub fn is_sendable(content_type: &str) -> bool {
    content_type == "text/plain" || MAGIC.iter().any(|(.., known)| *known == content_type)
}

/// What a file is called when it is sent: what its owner calls it, without a path and without what
/// no name has in it.
pub fn file_name(given: &str, content_type: &str) -> String {
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain = last.chars().filter(|letter| !letter.is_control());
    let name: String = plain.take(FILE_NAME_CHARS_MAX).collect();
    match name.trim().trim_start_matches('.') {
        "" => format!("file.{}", extension(content_type)),
        name => name.to_owned(),
    }
}

/// What a file of this type is called by, after the dot.
pub fn extension(content_type: &str) -> &str {
    match content_type {
        "application/octet-stream" => "bin",
        "application/gzip" => "gz",
        "image/svg+xml" => "svg",
        "text/plain" => "txt",
        other => other.split_once('/').map_or("bin", |(_, name)| name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_say_what_they_are() {
        let cases: &[(&[u8], &str)] = &[
            (b"\xFF\xD8\xFF\xE0\0\x10JFIF", "image/jpeg"),
            (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
            (b"\0\0\0\x20ftypisom\0\0", "video/mp4"),
            (b"\0\0\0\x20ftypM4A \0\0", "audio/mp4"),
            (b"%PDF-1.7\n", "application/pdf"),
            (b"hello", "text/plain"),
            (b"", "text/plain"),
            (b"\n <!DOCTYPE html><title>x", "text/html"),
            (b"hi <ScRiPt>alert(1)</script>", "text/html"),
            (b"<?xml version=\"1.0\"?><svg onload=x>", "image/svg+xml"),
            (b"<?xml version=\"1.0\"?><a/>", "application/xml"),
            (b"\x00\x01\x02", UNKNOWN),
            (b"\xFE\xED", UNKNOWN),
        ];
        for (bytes, expected) in cases {
            assert_eq!(content_type(bytes), *expected, "{bytes:?}");
        }
    }

    #[test]
    fn what_can_carry_a_script_is_not_shown() {
        for unsafe_type in [
            "text/html",
            "image/svg+xml",
            "application/xml",
            "application/pdf",
            UNKNOWN,
        ] {
            assert!(!is_shown(unsafe_type), "{unsafe_type}");
        }
        assert!(is_shown("image/png"));
    }

    #[test]
    fn what_is_unknown_or_could_run_is_not_sent() {
        for refused in ["text/html", "image/svg+xml", "application/xml", UNKNOWN] {
            assert!(!is_sendable(refused), "{refused}");
        }
        for sent in [
            "image/png",
            "application/pdf",
            "text/plain",
            "application/zip",
        ] {
            assert!(is_sendable(sent), "{sent}");
        }
    }

    #[test]
    fn a_name_has_no_path_and_no_controls() {
        let name = |given: &str| file_name(given, "image/png");
        assert_eq!(name("tea pot ☕.png"), "tea pot ☕.png");
        assert_eq!(name("C:\\Users\\x\\a.png"), "a.png");
        assert_eq!(name("../../etc/passwd"), "passwd");
        assert_eq!(name("a\r\nb\0.png"), "ab.png");
        for nothing in ["", " ", "..", "/", "a/"] {
            assert_eq!(name(nothing), "file.png", "{nothing:?}");
        }
        assert_eq!(name(&"ä".repeat(300)).chars().count(), 240);
    }

    #[test]
    fn a_page_is_no_picture() {
        use ContentKind::{File, Image, Sticker, Video, Voice};
        assert!(!fits(Some(Image), "text/html"));
        assert!(!fits(Some(Video), "image/png"));
        assert!(fits(Some(Image), "image/webp"));
        assert!(fits(Some(Voice), "video/mp4"));
        assert!(fits(Some(Sticker), "application/gzip"));
        assert!(fits(Some(File), "text/html"));
        assert!(fits(None, UNKNOWN));
    }
}
