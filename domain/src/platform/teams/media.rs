//! Where a medium is. Pictures inside of a message are hosted by Graph and had with the token; a file
//! is in somebody's drive, and Graph is asked for it by the name its address has among the shares: the
//! address in the answer is signed and wants no token.
//!
//! Anybody can write an address into a message. So the token goes to Graph alone, there only where
//! hosted pictures are, and never to the address of a file.
//!
//! Documented at <https://learn.microsoft.com/graph/api/chatmessagehostedcontent-get> and
//! <https://learn.microsoft.com/graph/api/shares-get>.

use super::graph;
use crate::platform::fact::Media;
use crate::platform::http::{HttpRequest, HttpResponse, TransportError};
use crate::platform::media::{Direct, MediaFlow, MediaStep};
use crate::platform::{App, Credentials, wire};

/// The address of a file, valid for about an hour.
const DOWNLOAD_URL: &str = "@microsoft.graph.downloadUrl";

/// How to get a medium.
pub fn flow(app: &App, credentials: &Credentials, medium: &Media) -> Box<dyn MediaFlow> {
    if let Some(id) = medium.file_id.as_deref() {
        let id = id.strip_prefix("u!").filter(|id| is_share(id));
        let ask = id.map(|id| {
            let path = format!("shares/u!{id}/driveItem?$select=id,name,size,file,{DOWNLOAD_URL}");
            // What somebody outside of the organisation shares is there once its link was used.
            HttpRequest::get(graph::url(app, &path))
                .bearer(credentials.access_token.expose())
                .header("prefer", "redeemSharingLinkIfNecessary")
        });
        return Box::new(Shared { ask });
    }
    let hosted = medium.url.as_deref().filter(|url| is_hosted(app, url));
    Box::new(match hosted {
        Some(url) => Direct::by(HttpRequest::get(url).bearer(credentials.access_token.expose())),
        None => Direct::new(medium),
    })
}

/// Whether this is a picture that Graph hosts for a message of a chat or channel.
fn is_hosted(app: &App, address: &str) -> bool {
    if !graph::is_ours(app, address) {
        return false;
    }
    let parsed = url::Url::parse(address).ok();
    let mut parts: Vec<&str> = parsed
        .as_ref()
        .and_then(url::Url::path_segments)
        .into_iter()
        .flatten()
        .collect();
    let hosted = parts.split_off(parts.len().saturating_sub(3));
    let of_message = match parts[..] {
        [_, "chats", _, "messages", _] => true,
        [_, "teams", _, "channels", _, "messages", _, ref reply @ ..] => {
            matches!(reply, [] | ["replies", _])
        }
        _ => false,
    };
    of_message && matches!(hosted[..], ["hostedContents", _, "$value"])
}

/// Whether this can be the name of an address among the shares.
fn is_share(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !id.is_empty() && id.bytes().all(plain)
}

/// A file in a drive.
struct Shared {
    ask: Option<HttpRequest>,
}

impl MediaFlow for Shared {
    fn next(&mut self, answer: Option<Result<HttpResponse, TransportError>>) -> MediaStep {
        match (self.ask.take(), answer) {
            (Some(ask), _) => MediaStep::Call(ask),
            (None, None) => MediaStep::Gone,
            (None, Some(answer)) => read(&answer),
        }
    }
}

fn read(answer: &Result<HttpResponse, TransportError>) -> MediaStep {
    // Who shared the file did not share it with this person, or the app may not read files. Either
    // says nothing about the chats.
    if answer.as_ref().is_ok_and(|answer| answer.status == 403) {
        return MediaStep::Gone;
    }
    match graph::success(answer) {
        Err(failure) => MediaStep::Failed(failure),
        Ok(answer) => match wire::filled(&answer.json()[DOWNLOAD_URL]) {
            Some(url) => MediaStep::Fetch(HttpRequest::get(url).into()),
            // A folder, a notebook.
            None => MediaStep::Gone,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::card::share_id;
    use super::*;
    use crate::platform::call::CallFailure;

    const GRAPH: &str = "https://graph.example/v1.0";

    fn medium_flow(medium: &Media) -> Box<dyn MediaFlow> {
        let app = App {
            api_base: "https://graph.example".into(),
            api_version: "v1.0".into(),
            ..App::default()
        };
        let credentials = Credentials {
            access_token: "token".into(),
            ..Credentials::default()
        };
        flow(&app, &credentials, medium)
    }

    fn fetched(url: &str) -> HttpRequest {
        let medium = Media {
            url: Some(url.into()),
            ..Media::default()
        };
        match medium_flow(&medium).next(None) {
            MediaStep::Fetch(download) => download.request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_hosted_picture_is_had_with_the_token() {
        for path in [
            "chats/19:a_b@unq.gbl.spaces/messages/1791/hostedContents/aWQ9/$value",
            "teams/t/channels/19:c/messages/1/hostedContents/aWQ9/$value",
            "teams/t/channels/19:c/messages/1/replies/2/hostedContents/aWQ9/$value",
        ] {
            let request = fetched(&format!("{GRAPH}/{path}"));
            let bearer = ("authorization".to_owned(), "Bearer token".to_owned());
            assert_eq!(request.headers, [bearer], "{path}");
        }
    }

    #[test]
    fn no_other_address_gets_it() {
        for url in [
            "https://graph.example/v1.0/me/messages",
            "https://graph.example/v1.0/me/photo/$value",
            "https://graph.example/v1.0/chats/c/messages/1/hostedContents/x/../../$value",
            "https://graph.example.evil.example/v1.0/chats/c/messages/1/hostedContents/x/$value",
            "http://graph.example/v1.0/chats/c/messages/1/hostedContents/x/$value",
            "https://smba.trafficmanager.net/emea/v3/attachments/1/views/original",
        ] {
            assert!(fetched(url).headers.is_empty(), "{url}");
        }
    }

    fn file(url: &str) -> Box<dyn MediaFlow> {
        medium_flow(&Media {
            file_id: Some(share_id(url)),
            ..Media::default()
        })
    }

    fn asked(status: u16, body: &Value) -> MediaStep {
        let mut flow = file("https://northwind-my.sharepoint.com/a b.pdf");
        flow.next(None);
        flow.next(Some(Ok(HttpResponse {
            status,
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
        })))
    }

    #[test]
    fn a_file_is_asked_for_by_its_share_and_had_without_the_token() {
        let address = "https://northwind-my.sharepoint.com/personal/mira/Documents/order%2042.pdf";
        let MediaStep::Call(ask) = file(address).next(None) else {
            panic!("nothing was asked");
        };
        assert_eq!(
            ask.url,
            "https://graph.example/v1.0/shares/u!aHR0cHM6Ly9ub3J0aHdpbmQtbXkuc2hhcmVwb2ludC5jb20v\
             cGVyc29uYWwvbWlyYS9Eb2N1bWVudHMvb3JkZXIlMjA0Mi5wZGY/driveItem\
             ?$select=id,name,size,file,@microsoft.graph.downloadUrl"
        );
        assert!(
            ask.headers
                .contains(&("authorization".into(), "Bearer token".into()))
        );
        let found = "https://northwind-my.sharepoint.com/_layouts/download.aspx?tempauth=1";
        let step = asked(200, &json!({ DOWNLOAD_URL: found }));
        let MediaStep::Fetch(download) = step else {
            panic!("{step:?}");
        };
        assert_eq!(download.request, HttpRequest::get(found));
        assert!(matches!(
            asked(200, &json!({"folder": {}})),
            MediaStep::Gone
        ));
        let path = medium_flow(&Media {
            file_id: Some("u!../me".into()),
            ..Media::default()
        })
        .next(None);
        assert!(matches!(path, MediaStep::Gone), "{path:?}");
    }

    #[test]
    fn every_refusal_has_its_class() {
        use CallFailure::{Backoff, Permanent, Reconnect};
        let error = json!({"error": {"code": "accessDenied", "message": "The caller may not"}});
        assert!(matches!(asked(403, &error), MediaStep::Gone));
        assert!(matches!(
            asked(401, &error),
            MediaStep::Failed(Reconnect { .. })
        ));
        assert!(matches!(
            asked(404, &error),
            MediaStep::Failed(Permanent { .. })
        ));
        assert!(matches!(
            asked(503, &error),
            MediaStep::Failed(Backoff { .. })
        ));
    }
}
