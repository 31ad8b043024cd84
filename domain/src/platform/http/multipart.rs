//! Forms with files (`multipart/form-data`, RFC 7578).
//!
//! The line between the parts is derived from a seed and occurs in none of them, so that whatever a
//! file contains, it ends where it ends. What a file is called cannot end its header either.

use sha2::{Digest as _, Sha256};

use super::{HttpRequest, Method};

/// One field of a form.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The field's name: ours, plain.
    pub name: &'a str,
    /// What the file is called; `None` for a field that is no file.
    pub file_name: Option<&'a str>,
    /// What the part is; `None` says nothing of it.
    pub content_type: Option<&'a str>,
    /// The content.
    pub bytes: &'a [u8],
}

impl<'a> Part<'a> {
    /// A field with a text.
    pub fn text(name: &'a str, text: &'a str) -> Self {
        Self {
            name,
            file_name: None,
            content_type: None,
            bytes: text.as_bytes(),
        }
    }
}

impl HttpRequest {
    /// A POST of a form with files to this URL.
    pub fn post_multipart(url: impl Into<String>, seed: &str, parts: &[Part<'_>]) -> Self {
        let boundary = boundary(seed, parts);
        let size: usize = parts.iter().map(|part| part.bytes.len() + 512).sum();
        let mut body = Vec::with_capacity(size);
        for part in parts {
            let name = part.name;
            let mut head =
                format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"");
            if let Some(file_name) = part.file_name {
                head += &format!("; filename=\"{}\"", quoted(file_name));
            }
            if let Some(content_type) = part.content_type {
                head += &format!("\r\ncontent-type: {content_type}");
            }
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(b"\r\n\r\n");
            body.extend_from_slice(part.bytes);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        let content_type = format!("multipart/form-data; boundary={boundary}");
        Self {
            method: Method::Post,
            url: url.into(),
            headers: vec![("content-type".into(), content_type)],
            body,
        }
    }
}

/// A line that is in no part.
fn boundary(seed: &str, parts: &[Part<'_>]) -> String {
    let mut line = format!("hub-{}", &hex::encode(Sha256::digest(seed))[..32]);
    while parts
        .iter()
        .any(|part| contains(part.bytes, line.as_bytes()))
    {
        line = format!("hub-{}", &hex::encode(Sha256::digest(&line))[..32]);
    }
    line
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    let mut rest = bytes;
    // Few bytes begin like a boundary: looking for the first is most of the work.
    while let Some(at) = rest.iter().position(|byte| *byte == wanted[0]) {
        if rest[at..].starts_with(wanted) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// A name between quotes, escaped as browsers do it.
fn quoted(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '"' => quoted += "%22",
            '\r' => quoted += "%0D",
            '\n' => quoted += "%0A",
            other => quoted.push(other),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(parts: &[Part<'_>]) -> (String, String) {
        let request = HttpRequest::post_multipart("https://x.example/", "seed", parts);
        let (_, boundary) = request.headers[0].1.split_once("boundary=").unwrap();
        let body = String::from_utf8(request.body.clone()).unwrap();
        (boundary.to_owned(), body)
    }

    #[test]
    fn a_form_with_a_file() {
        let file = Part {
            name: "file",
            file_name: Some("tea \"pot\"\r\n.png"),
            content_type: Some("image/png"),
            bytes: b"\r\n--x\r\n",
        };
        let (boundary, body) = form(&[Part::text("type", "image/png"), file]);
        let expected = format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"type\"\r\n\r\nimage/png\r\n\
             --{boundary}\r\ncontent-disposition: form-data; name=\"file\"; \
             filename=\"tea %22pot%22%0D%0A.png\"\r\ncontent-type: image/png\r\n\r\n\
             \r\n--x\r\n\r\n--{boundary}--\r\n"
        );
        assert_eq!(body, expected);
    }

    #[test]
    fn no_file_has_the_line_between_the_parts_in_it() {
        let (first, _) = form(&[Part::text("a", "plain")]);
        let hostile = format!("\r\n--{first}--\r\n");
        let (boundary, body) = form(&[Part::text("a", &hostile)]);
        assert_ne!(boundary, first);
        assert!(body.contains(&hostile));
        assert_eq!(body.matches(&boundary).count(), 2);
    }
}
