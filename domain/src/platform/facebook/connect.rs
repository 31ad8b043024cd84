//! What connecting a Page asks for.

use serde_json::Value;

use crate::platform::meta::pages::Product;
use crate::platform::{Connected, wire};
use crate::secret::Secret;

/// Connecting a Page.
pub static PAGES: Product = Product {
    name: "Facebook",
    settings: ["FACEBOOK_APP_ID", "FACEBOOK_APP_SECRET"],
    scopes: "pages_show_list pages_messaging pages_manage_metadata pages_read_engagement",
    fields: "id,name,access_token,tasks,category",
    page_fields: "id,name,access_token",
    subscribed_fields: "messages,messaging_postbacks,messaging_referrals,\
message_deliveries,message_reads,message_echoes,message_reactions,message_edits,\
messaging_handovers,standby,messaging_policy_enforcement",
    account: page,
    nothing: "No Facebook Page found that you may send messages for. \
              Please choose at least one Page when Facebook asks.",
};

fn page(page: &Value) -> Option<Connected> {
    let id = wire::id(&page["id"])?;
    Some(Connected {
        username: wire::filled(&page["name"]).unwrap_or_else(|| "Facebook Page".into()),
        access_token: Secret::new(wire::filled(&page["access_token"])?),
        platform_user_id: id.clone(),
        route: id,
        refresh_token: None,
        expires_in_s: None,
        granted: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::http::{HttpRequest, HttpResponse, Method, TransportError};
    use crate::platform::meta::pages::{self, Answer, Flow};
    use crate::platform::{App, ConnectFlow, ConnectStep, Grant, Grantor};
    use serde_json::json;

    fn app() -> App {
        App {
            client_id: "845120034567890".into(),
            client_secret: "0f1e2d3c4b5a69788796a5b4c3d2e1f0".into(),
            api_base: "https://graph.example".into(),
            dialog_base: "https://dialog.example".into(),
            api_version: "v26.0".into(),
            redirect_uri: "https://hub.example/api/auth/callback/facebook".into(),
            ..App::default()
        }
    }

    fn flow() -> Flow {
        Flow::new(
            &PAGES,
            &app(),
            Grant::Code {
                code: "the-code".into(),
                verifier: None,
            },
        )
    }

    fn ok(body: Value) -> Option<Answer> {
        let body = body.to_string().into_bytes();
        Some(Ok(HttpResponse {
            status: 200,
            headers: Vec::new(),
            body,
        }))
    }

    fn call(step: ConnectStep) -> HttpRequest {
        match step {
            ConnectStep::Call(call) => call,
            other => panic!("{other:?}"),
        }
    }

    fn failed(step: ConnectStep) -> String {
        match step {
            ConnectStep::Failed(error) => error.0,
            other => panic!("{other:?}"),
        }
    }

    fn query(url: &str, name: &str) -> Option<String> {
        let url = url::Url::parse(url).unwrap();
        let found = url.query_pairs().find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned())
    }

    #[test]
    fn the_dialog() {
        let url = pages::authorize(&PAGES, &app(), "s1").unwrap();
        assert!(url.starts_with("https://dialog.example/v26.0/dialog/oauth?"));
        for (name, expected) in [
            ("client_id", "845120034567890"),
            (
                "redirect_uri",
                "https://hub.example/api/auth/callback/facebook",
            ),
            ("state", "s1"),
            ("response_type", "code"),
            ("scope", PAGES.scopes),
        ] {
            assert_eq!(query(&url, name).as_deref(), Some(expected));
        }
        let sentence = pages::authorize(&PAGES, &App::default(), "s1")
            .unwrap_err()
            .0;
        assert!(sentence.contains("FACEBOOK_APP_ID and FACEBOOK_APP_SECRET"));
    }

    #[test]
    fn the_whole_way() {
        let mut flow = flow();
        let url = call(flow.next(None)).url;
        assert!(url.starts_with("https://graph.example/v26.0/oauth/access_token?"));
        assert_eq!(query(&url, "code").as_deref(), Some("the-code"));
        let secret = query(&url, "client_secret");
        assert_eq!(secret.as_deref(), Some("0f1e2d3c4b5a69788796a5b4c3d2e1f0"));
        let url = call(flow.next(ok(json!({"access_token": "short"})))).url;
        assert_eq!(
            query(&url, "grant_type").as_deref(),
            Some("fb_exchange_token")
        );
        assert_eq!(query(&url, "fb_exchange_token").as_deref(), Some("short"));
        let url = call(flow.next(ok(json!({"access_token": "long"})))).url;
        assert!(url.starts_with("https://graph.example/v26.0/debug_token?"));
        assert_eq!(query(&url, "input_token").as_deref(), Some("long"));
        let ours = "845120034567890|0f1e2d3c4b5a69788796a5b4c3d2e1f0";
        assert_eq!(query(&url, "access_token").as_deref(), Some(ours));
        assert_eq!(flow.grantor(), None);
        let url = call(flow.next(ok(inspected(&[])))).url;
        assert!(url.starts_with("https://graph.example/v26.0/me/accounts?"));
        assert_eq!(query(&url, "access_token").as_deref(), Some("long"));
        assert_eq!(query(&url, "after"), None);
        assert!(query(&url, "appsecret_proof").is_some());
        let first = json!({"data": [{"id": "1", "access_token": "t", "tasks": ["ANALYZE"]}],
            "paging": {"cursors": {"after": "c1"}, "next": "https://elsewhere.example"}});
        let url = call(flow.next(ok(first))).url;
        assert!(
            url.starts_with("https://graph.example/"),
            "paging never leaves the API base"
        );
        assert_eq!(query(&url, "after").as_deref(), Some("c1"));
        let second = json!({"data": [{"id": 104_857_600_112_233_u64, "name": "Teapots",
            "access_token": "page", "tasks": ["MODERATE", "MESSAGING"]}]});
        let subscription = call(flow.next(ok(second)));
        assert_eq!(subscription.method, Method::Post);
        let expected = "https://graph.example/v26.0/104857600112233/subscribed_apps?";
        assert!(subscription.url.starts_with(expected));
        assert_eq!(
            query(&subscription.url, "access_token").as_deref(),
            Some("page")
        );
        let ConnectStep::Done(account) = flow.next(ok(json!({"success": "true"}))) else {
            panic!("not done");
        };
        assert_eq!(account.platform_user_id, "104857600112233");
        assert_eq!(account.route, "104857600112233");
        assert_eq!(account.username, "Teapots");
        assert_eq!(account.access_token.expose(), "page");
        assert_eq!(account.expires_in_s, None);
        let grantor = Grantor {
            id: "10158000000000001".into(),
            data_access_until_s: Some(1_799_000_000),
        };
        assert_eq!(flow.grantor(), Some(&grantor));
        failed(flow.next(None));
    }

    /// What Graph says of the long token, granted for these Pages.
    fn inspected(pages: &[&str]) -> Value {
        let scope = |scope: &str| json!({"scope": scope, "target_ids": pages});
        json!({"data": {"user_id": 10_158_000_000_000_001_u64, "is_valid": true,
            "data_access_expires_at": 1_799_000_000, "expires_at": 0,
            "granular_scopes": [scope("pages_show_list"), scope("pages_messaging"),
                {"scope": "public_profile", "target_ids": ["9"]}]}})
    }

    /// A flow that has asked for the first list of Pages.
    fn listing(told: Value) -> Flow {
        let mut flow = flow();
        flow.next(None);
        flow.next(ok(json!({"access_token": "short"})));
        flow.next(ok(json!({"access_token": "long"})));
        assert!(call(flow.next(ok(told))).url.contains("/me/accounts?"));
        flow
    }

    #[test]
    fn pages_of_a_portfolio_are_asked_for_by_what_was_granted() {
        let mut flow = listing(inspected(&["7", "8", "7"]));
        // One that is listed and may not be written for is not asked for again.
        let listed = json!({"data": [{"id": "8", "access_token": "t", "tasks": ["ANALYZE"]}]});
        let alone = call(flow.next(ok(listed)));
        assert!(alone.url.starts_with("https://graph.example/v26.0/7?"));
        let fields = query(&alone.url, "fields");
        assert_eq!(fields.as_deref(), Some("id,name,access_token"));
        assert_eq!(query(&alone.url, "access_token").as_deref(), Some("long"));
        let page = json!({"id": "7", "name": "Teapots", "access_token": "page"});
        let subscription = call(flow.next(ok(page)));
        assert!(subscription.url.contains("/v26.0/7/subscribed_apps?"));
        let ConnectStep::Done(account) = flow.next(ok(json!({"success": true}))) else {
            panic!("not done");
        };
        assert_eq!(
            (&*account.route, account.access_token.expose()),
            ("7", "page")
        );
    }

    #[test]
    fn pages_that_cannot_be_had_alone_are_bounded_and_end_in_words() {
        let targets: Vec<String> = (0..40).map(|page| page.to_string()).collect();
        let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
        let mut flow = listing(inspected(&targets));
        let mut step = flow.next(ok(json!({"data": []})));
        let mut asked = 0;
        while let ConnectStep::Call(_) = step {
            asked += 1;
            step = flow.next(ok(json!({"error": {"code": 100, "message": "m"}})));
        }
        assert_eq!(asked, pages::ALONE_MAX);
        assert!(failed(step).contains("No Facebook Page"));
    }

    #[test]
    fn nobody_fails_to_connect_because_graph_does_not_say_who_they_are() {
        for told in [json!({"error": {"code": 190, "message": "m"}}), json!({})] {
            let flow = listing(told);
            assert_eq!(flow.grantor(), None);
        }
    }

    #[test]
    fn failures_are_sentences_without_secrets() {
        let error = json!({"error": {"code": 100, "message": "bad the-code"}});
        let mut refused = flow();
        refused.next(None);
        let sentence = failed(refused.next(ok(error.clone())));
        assert!(sentence.contains("code 100") && !sentence.contains("the-code"));
        let mut unreachable = flow();
        unreachable.next(None);
        failed(unreachable.next(Some(Err(TransportError::NotSent))));
        let mut pageless = flow();
        pageless.next(None);
        pageless.next(ok(json!({"access_token": "short"})));
        pageless.next(ok(json!({"access_token": "long"})));
        pageless.next(ok(inspected(&[])));
        assert!(failed(pageless.next(ok(json!({"data": []})))).contains("No Facebook Page"));
        let widget = Grant::Widget {
            id: "1".into(),
            username: "ann".into(),
        };
        failed(Flow::new(&PAGES, &app(), widget).next(None));
        let code = Grant::Code {
            code: "c".into(),
            verifier: None,
        };
        failed(Flow::new(&PAGES, &App::default(), code).next(None));
    }

    #[test]
    fn a_page_that_cannot_be_subscribed_is_not_connected() {
        let account = || page(&json!({"id": "1", "name": "T", "access_token": "t"})).unwrap();
        let error = json!({"error": {"code": 200, "message": "m"}});
        assert!(pages::subscribed("Facebook", account(), &ok(error).unwrap()).is_err());
        assert!(pages::subscribed("Facebook", account(), &Err(TransportError::Unclear)).is_err());
        let gateway = HttpResponse {
            status: 404,
            ..HttpResponse::default()
        };
        assert!(pages::subscribed("Facebook", account(), &Ok(gateway)).is_ok());
    }

    #[test]
    fn paging_is_bounded() {
        let mut flow = flow();
        flow.next(None);
        flow.next(ok(json!({"access_token": "short"})));
        flow.next(ok(json!({"access_token": "long"})));
        let mut step = flow.next(ok(inspected(&[])));
        let more = json!({"data": [], "paging": {"cursors": {"after": "c"}, "next": "n"}});
        let mut lists = 0;
        while let ConnectStep::Call(_) = step {
            lists += 1;
            step = flow.next(ok(more.clone()));
        }
        assert_eq!(lists, pages::LISTS_MAX);
    }
}
