//! Where a medium is. Clips are at addresses that anybody may load. A photo of a direct message is at
//! an address of the first API, which wants its signatures; the second API hands the same bytes out to
//! a participant, by the three ids that are in that address.
//!
//! The token goes to the API alone, whatever address came with the message.
//!
//! Documented at <https://docs.x.com/x-api/direct-messages>, "Download DM media".

use url::Url;

use super::url;
use crate::platform::fact::Media;
use crate::platform::http::HttpRequest;
use crate::platform::media::Direct;
use crate::platform::{App, Credentials};

/// Who keeps the photos of direct messages.
const KEEPERS: [&str; 2] = ["ton.twitter.com", "ton.x.com"];

/// How to get a medium.
pub fn flow(app: &App, credentials: &Credentials, medium: &Media) -> Direct {
    let address = medium.url.as_deref();
    match address.and_then(photo) {
        Some([message, id, resource]) if medium.available != Some(false) => {
            let path = format!("dm_conversations/media/{message}/{id}/{resource}");
            Direct::by(HttpRequest::get(url(app, &path)).bearer(credentials.access_token.expose()))
        }
        _ => Direct::new(medium),
    }
}

/// The ids of message, medium and resource in the address of a photo.
fn photo(address: &str) -> Option<[String; 3]> {
    let address = Url::parse(address).ok()?;
    if !KEEPERS.contains(&address.host_str()?) {
        return None;
    }
    let parts: Vec<&str> = address.path_segments()?.collect();
    let ["1.1", "ton", "data", "dm", message, id, file] = parts[..] else {
        return None;
    };
    // Sizes and extensions are no part of the name: a.jpg, a.jpg:large.
    let resource = file.split(['.', ':']).next()?;
    let is_plain = |it: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        !it.is_empty() && it.bytes().all(plain)
    };
    let ids = [message, id, resource];
    ids.iter()
        .all(|it| is_plain(it))
        .then(|| ids.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::media::{MediaFlow as _, MediaStep};

    fn request(address: &str) -> HttpRequest {
        let app = App {
            api_base: "https://api.example".into(),
            api_version: "2".into(),
            ..App::default()
        };
        let credentials = Credentials {
            access_token: "token".into(),
            ..Credentials::default()
        };
        let medium = Media {
            url: Some(address.into()),
            ..Media::default()
        };
        let step = flow(&app, &credentials, &medium).next(None);
        let MediaStep::Fetch(download) = step else {
            panic!("{step:?}");
        };
        download.request
    }

    #[test]
    fn a_photo_is_had_from_the_api_with_the_token() {
        for file in ["a1_B-c.jpg", "a1_B-c.jpg:large", "a1_B-c"] {
            let address = format!("https://ton.twitter.com/1.1/ton/data/dm/184001/184777/{file}");
            let request = request(&address);
            assert_eq!(
                request.url,
                "https://api.example/2/dm_conversations/media/184001/184777/a1_B-c"
            );
            let bearer = ("authorization".to_owned(), "Bearer token".to_owned());
            assert_eq!(request.headers, [bearer]);
        }
    }

    #[test]
    fn everything_else_is_had_without_it() {
        for address in [
            "https://video.twimg.com/dm_video/1/vid/480x480/a.mp4?tag=1",
            "https://pbs.twimg.com/dm_gif/1/a.mp4",
            "https://ton.twitter.com.evil.example/1.1/ton/data/dm/1/2/a.jpg",
            "https://ton.twitter.com/1.1/ton/data/dm/1/2",
            "https://ton.twitter.com/1.1/ton/data/dm/1/2/3/a.jpg",
            "https://ton.twitter.com/1.1/ton/data/dm/1%2F/2/a.jpg",
            "https://ton.twitter.com/1.1/ton/data/dm/1/2/.jpg",
        ] {
            let request = request(address);
            assert_eq!(request.url, address);
            assert!(request.headers.is_empty(), "{address}");
        }
    }
}
