//! Where a medium of a member's message is. The change log names it by an asset or by an address of the
//! API, which both are had with the member's token; the bytes are where the API redirects to, and the
//! token stays behind. Clips are at public addresses of somebody else's.
//!
//! Anybody can put an address into a message: the token goes to `/mediaDownload/` of the API and
//! nowhere else. What a medium is, its bytes say.
//!
//! Documented at <https://learn.microsoft.com/linkedin/compliance/integrations/compliance-events>,
//! "Messages", "Sample request of media download". That an asset's own name is enough for an address is
//! seen in others' code, not in the documents.

use url::Url;

use super::content::ASSET;
use crate::platform::fact::Media;
use crate::platform::http::HttpRequest;
use crate::platform::media::{Direct, is_same_origin};
use crate::platform::{App, Credentials};

/// Where the API hands media out.
const DOWNLOADS: &str = "mediaDownload";

/// How to get a medium.
pub fn flow(app: &App, credentials: &Credentials, medium: &Media) -> Direct {
    let asset = medium
        .file_id
        .as_deref()
        .and_then(|it| it.strip_prefix(ASSET));
    let by_name = asset
        .filter(|id| is_plain(id))
        .map(|id| format!("{}/{DOWNLOADS}/{id}", app.api_base));
    let by_address = medium.url.as_deref().filter(|url| is_download(app, url));
    match by_name.or_else(|| by_address.map(str::to_owned)) {
        Some(url) if medium.available != Some(false) => {
            Direct::by(HttpRequest::get(url).bearer(credentials.access_token.expose()))
        }
        _ => Direct::new(medium),
    }
}

/// The name of an asset has nothing in it that means something in an address.
fn is_plain(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !id.is_empty() && id.bytes().all(plain)
}

fn is_download(app: &App, address: &str) -> bool {
    let first = |url: &Url| url.path_segments()?.next().map(str::to_owned);
    let parsed = Url::parse(address).ok();
    is_same_origin(address, &app.api_base)
        && parsed.as_ref().and_then(first).as_deref() == Some(DOWNLOADS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::media::{MediaFlow as _, MediaStep};

    fn step(medium: &Media) -> MediaStep {
        let app = App {
            api_base: "https://api.example".into(),
            ..App::default()
        };
        let credentials = Credentials {
            access_token: "token".into(),
            ..Credentials::default()
        };
        flow(&app, &credentials, medium).next(None)
    }

    fn request(medium: &Media) -> HttpRequest {
        match step(medium) {
            MediaStep::Fetch(download) => download.request,
            other => panic!("{other:?}"),
        }
    }

    fn at(url: &str) -> Media {
        Media {
            url: Some(url.into()),
            ..Media::default()
        }
    }

    fn asset(id: &str) -> Media {
        Media {
            file_id: Some(format!("{ASSET}{id}")),
            ..Media::default()
        }
    }

    #[test]
    fn the_api_hands_out_what_it_keeps_with_the_token() {
        let bearer = ("authorization".to_owned(), "Bearer token".to_owned());
        let address = "https://api.example/mediaDownload/C4E/messaging-attachmentFile/0?m=A&e=1";
        for (medium, url) in [
            (
                asset("C4E20AQvoi_ce"),
                "https://api.example/mediaDownload/C4E20AQvoi_ce",
            ),
            (at(address), address),
        ] {
            let request = request(&medium);
            assert_eq!(
                (request.url.as_str(), &request.headers[..]),
                (url, &[bearer.clone()][..])
            );
        }
    }

    #[test]
    fn no_other_address_gets_it() {
        for url in [
            "https://media.tenor.com/x.gif",
            "https://api.example/v2/me",
            "https://api.example/rest/x/mediaDownload/1",
            "https://api.example.evil.example/mediaDownload/1",
            "http://api.example/mediaDownload/1",
            "https://api.example:8443/mediaDownload/1",
            "https://api.example@evil.example/mediaDownload/1",
        ] {
            let request = request(&at(url));
            assert_eq!(request.url, url);
            assert!(request.headers.is_empty(), "{url}");
        }
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_no_name() {
        for id in ["", "../v2/me", "a/b", "a?b", "a%2Fb", "Grüße"] {
            assert!(matches!(step(&asset(id)), MediaStep::Gone), "{id}");
        }
        let gone = Media {
            available: Some(false),
            ..asset("C4E")
        };
        assert!(matches!(step(&gone), MediaStep::Gone));
    }
}
