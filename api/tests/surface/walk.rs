//! Every route of the table with every kind of wrong caller and wrong input, always as a browser of
//! another origin: whatever is answered carries the CORS headers and has the route's form of error.

use std::collections::BTreeSet;

use axum::body::Body;
use chrono::Utc;
use futures::stream;
use hub_api::auth::{Claims, issue};
use hub_domain::id::UserId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::document::served;
use crate::hub::{Answer, Hub, ORIGIN, request};
use crate::table::{Errors, Guard, ROUTES, Reads, guarded};
use crate::walker::{World, check_cors, expect};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn the_table_knows_every_route() {
    let hub = Hub::start().await;
    let document = served(&hub.router).await;
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let needs_token = operation["security"] == json!([{ "bearer": [] }]);
            let reads = operation["requestBody"].is_object();
            described.insert((method.to_uppercase(), path.clone(), needs_token, reads));
        }
    }
    let known = ROUTES.iter().map(|it| {
        let reads = !matches!(it.reads, Reads::Nothing);
        let needs_token = it.guard == Guard::Token;
        (it.method.to_owned(), it.path.to_owned(), needs_token, reads)
    });
    assert_eq!(known.collect::<BTreeSet<_>>(), described);
    for route in ROUTES {
        assert_eq!(route.id.is_some(), route.path.contains("{id}"), "{route:?}");
        assert_eq!(
            route.platform.is_some(),
            route.path.contains("{platform}"),
            "{route:?}"
        );
    }
}

#[tokio::test]
async fn no_route_lets_a_bad_token_in() {
    let world = World::new().await;
    let expired = format!("Bearer {}", world.ann.expired_token(&world.hub));
    let refresh = format!("Bearer {}", world.ann.refresh);
    // Signed by this hub, for somebody who is not in its database: a copy, or one that was restored.
    let nobody = Claims {
        user: UserId(Uuid::new_v4()),
        email: world.ann.email.clone(),
    };
    let nobody = issue(&world.hub.api.settings().auth, &nobody, Utc::now());
    let nobody = format!("Bearer {}", nobody.unwrap().0.access);
    let basic = "Basic YW5uOmFubg==";
    let cases = [
        (None, "UNAUTHORIZED"),
        (Some(""), "UNAUTHORIZED"),
        (Some("Bearer"), "UNAUTHORIZED"),
        (Some("Bearer undefined"), "INVALID_TOKEN"),
        (Some(basic), "INVALID_TOKEN_FORMAT"),
        (Some("Bearer a b"), "INVALID_TOKEN_FORMAT"),
        (Some(expired.as_str()), "TOKEN_EXPIRED"),
        (Some(refresh.as_str()), "INVALID_TOKEN"),
        (Some(nobody.as_str()), "INVALID_TOKEN"),
    ];
    let events = world.hub.count("events").await;
    for route in guarded() {
        for (header, code) in cases {
            for slash in ["", "/"] {
                let path = world.own(route) + slash;
                let answer = world.ask(route, route.method, &path, header, "{}").await;
                expect(
                    route,
                    &format!("{} {path}", route.method),
                    &answer,
                    401,
                    code,
                );
                assert_eq!(answer.header("www-authenticate"), "Bearer");
            }
        }
    }
    assert_eq!(world.hub.count("events").await, events);
    // Whoever needs no token is not asked about a bad one.
    for route in ROUTES.iter().filter(|route| route.guard == Guard::Open) {
        let path = world.own(route);
        let without = world.ask(route, route.method, &path, None, "").await;
        for bad in [basic, &expired] {
            let with = world.ask(route, route.method, &path, Some(bad), "").await;
            assert_eq!(with.status, without.status, "{} {path}", route.method);
        }
    }
}

#[tokio::test]
async fn nobody_reads_or_changes_what_is_somebody_elses() {
    let world = World::new().await;
    let events = world.hub.count("events").await;
    let bearer = format!("Bearer {}", world.eve.access);
    let ids = [
        world.account,
        world.conversation,
        world.message,
        world.ann.user.0,
        Uuid::now_v7(),
    ];
    for route in ROUTES {
        let Some((_, status, code)) = route.id else {
            continue;
        };
        for id in ids {
            let (path, body) = (route.at(id), route.body().unwrap_or_default());
            let call = world.ask(route, route.method, &path, Some(&bearer), body.to_string());
            let answer = call.await;
            expect(
                route,
                &format!("{} {path}", route.method),
                &answer,
                status,
                code,
            );
            assert!(!answer.text.contains("for ann only"));
        }
    }
    for path in ["/api/messages", "/api/conversations", "/api/oauth/accounts"] {
        let answer = world.hub.get(&world.eve, path).await;
        assert_eq!(answer.status, 200);
        let lists = answer.body.as_object().unwrap().values();
        let mut lists = lists.filter_map(Value::as_array);
        assert!(lists.all(Vec::is_empty), "{}", answer.text);
    }
    assert_eq!(world.hub.count("events").await, events);
}

#[tokio::test]
async fn ids_in_paths_are_uuids_and_platforms_are_known() {
    let world = World::new().await;
    let simple = Uuid::now_v7().simple().to_string();
    let long = "a".repeat(10_000);
    let odd = [
        "x",
        "1",
        "undefined",
        &simple,
        "%00",
        "%ff",
        "..%2F..%2Fetc",
        &long,
    ];
    for route in ROUTES {
        for id in odd.iter().filter(|_| route.id.is_some()) {
            let path = route.path.replace("{id}", id);
            let answer = world.as_ann(route, route.method, &path).await;
            let place = format!("{} {}", route.method, &path[..path.len().min(80)]);
            expect(route, &place, &answer, 400, "VALIDATION_ERROR");
        }
        let Some((status, code)) = route.platform else {
            continue;
        };
        for platform in ["mastodon", "Facebook", "%00", "%ff", &long] {
            let path = route.path.replace("{platform}", platform);
            let answer = world.as_ann(route, route.method, &path).await;
            let place = format!("{} {}", route.method, &path[..path.len().min(80)]);
            expect(route, &place, &answer, status, code);
        }
    }
    // One that is known and that this hub is not registered with.
    let path = "/api/oauth/connect/teams";
    let answer = world.hub.get(&world.ann, path).await;
    assert_eq!((answer.status, answer.code()), (500, "CONNECTION_FAILED"));
    assert!(answer.body["error"]["message"].as_str().unwrap().len() > 10);
    assert_eq!(answer.body["error"]["retryable"], true);
}

#[tokio::test]
async fn bodies_are_json_objects_with_texts_of_a_bounded_length() {
    let world = World::new().await;
    let events = world.hub.count("events").await;
    let malformed = [
        "{",
        "[]",
        "null",
        "\"x\"",
        "\u{fffd}",
        "email=a@b.test",
        r#"{"a":1e999}"#,
    ];
    for route in ROUTES {
        let Reads::Object(fields) = route.reads else {
            continue;
        };
        let path = world.own(route);
        let bearer = format!("Bearer {}", world.ann.access);
        let refused = async |body: String| {
            let shown: String = body.chars().take(80).collect();
            let call = world.ask(route, route.method, &path, Some(&bearer), body);
            let place = format!("{} {path} {shown}", route.method);
            expect(route, &place, &call.await, 400, "VALIDATION_ERROR");
        };
        for body in malformed {
            refused(body.to_owned()).await;
        }
        for field in fields {
            // The widget's fields are whatever Telegram signed; only the state is ours.
            if route.errors == Errors::WithMessage && field.name != "state" {
                continue;
            }
            let with = |value: Value| {
                let mut body = route.body().unwrap();
                body[field.name] = value;
                body.to_string()
            };
            for wrong in [
                json!(7),
                json!(true),
                json!([]),
                json!({"a": 1}),
                json!([field.good]),
            ] {
                refused(with(wrong)).await;
            }
            if let Some(most) = field.most {
                let (end, rest) = match field.name {
                    "email" => ("@example.com", most + 1 - "@example.com".len()),
                    _ => ("", most + 1),
                };
                refused(with(json!("x".repeat(rest) + end))).await;
            }
        }
    }
    assert_eq!(world.hub.count("events").await, events);
}

#[tokio::test]
async fn too_much_is_413_and_compressed_is_415() {
    let world = World::new().await;
    let commands = world.hub.count("commands").await;
    let bearer = format!("Bearer {}", world.ann.access);
    let bearer = Some(bearer.as_str());
    for route in ROUTES
        .iter()
        .filter(|it| !matches!(it.reads, Reads::Nothing))
    {
        let path = world.own(route);
        let place = format!("{} {path}", route.method);
        let announced = Body::from(vec![b' '; 11 * MIB]);
        let chunks = stream::iter((0..11).map(|_| Ok::<_, std::io::Error>(vec![b' '; MIB])));
        for body in [announced, Body::from_stream(chunks)] {
            let answer = world.ask(route, route.method, &path, bearer, body).await;
            expect(route, &place, &answer, 413, "VALIDATION_ERROR");
        }
    }
    for route in ROUTES {
        let path = world.own(route);
        for encoding in ["gzip", "br", "identity, gzip"] {
            let mut call = request(route.method, &path, Some(&world.ann.access), None);
            let headers = call.headers_mut();
            headers.insert("content-encoding", encoding.parse().unwrap());
            headers.insert("origin", ORIGIN.parse().unwrap());
            let answer = world.hub.call(call).await;
            let place = format!("{} {path} {encoding}", route.method);
            check_cors(&place, &answer);
            expect(route, &place, &answer, 415, "VALIDATION_ERROR");
        }
    }
    assert_eq!(world.hub.count("commands").await, commands);
}

/// The names in a body, and the error it tells of: tokens, times and states differ from answer to
/// answer, these do not.
fn gist(answer: &Answer) -> (Vec<String>, [Value; 2]) {
    let fields = answer.body.as_object();
    let names = fields.map_or(Vec::new(), |it| it.keys().cloned().collect());
    let codes = [&answer.body["error"]["code"], &answer.body["code"]];
    (names, codes.map(Value::clone))
}

#[tokio::test]
async fn slashes_and_surplus_fields_change_nothing() {
    let world = World::new().await;
    let bearer = format!("Bearer {}", world.ann.access);
    for route in ROUTES {
        // An id of nothing: what is done is done once.
        let path = route.at(Uuid::now_v7());
        let plain = world.as_ann(route, route.method, &path).await;
        assert_ne!(plain.status, 405, "{} {path}", route.method);
        for other in [
            format!("{path}/"),
            format!("{path}//"),
            format!("{path}/?limit=5"),
        ] {
            let answer = world.as_ann(route, route.method, &other).await;
            if route.path == "/api/auth/register" {
                assert_eq!((plain.status, answer.status), (201, 409));
                continue;
            }
            assert_eq!(answer.status, plain.status, "{} {other}", route.method);
            assert_eq!(gist(&answer), gist(&plain), "{} {other}", route.method);
        }
        let Some(mut body) = route.body().filter(|_| route.path != "/api/auth/register") else {
            continue;
        };
        body["surplus"] = json!({"deep": [1, null, "x"]});
        let call = world.ask(route, route.method, &path, Some(&bearer), body.to_string());
        assert_eq!(call.await.status, plain.status, "{} {path}", route.method);
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_which_are_right() {
    let world = World::new().await;
    for route in ROUTES {
        let taken: Vec<&str> = ROUTES
            .iter()
            .filter(|other| other.at("x") == route.at("x"))
            .map(|other| other.method)
            .collect();
        let path = route.at(Uuid::now_v7());
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            if taken.contains(&method) {
                continue;
            }
            for slash in ["", "/"] {
                let path = path.clone() + slash;
                let place = format!("{method} {path}");
                let answer = world.as_ann(route, method, &path).await;
                expect(route, &place, &answer, 405, "METHOD_NOT_ALLOWED");
                let allow = answer.header("allow").to_owned();
                assert!(
                    taken.iter().all(|it| allow.contains(it)),
                    "{place}: {allow}"
                );
                assert!(!allow.contains(method), "{place}: {allow}");
            }
        }
    }
    let answer = world.hub.get(&world.ann, "/api/webhooks/telegram").await;
    assert_eq!((answer.status, answer.code()), (405, "METHOD_NOT_ALLOWED"));
    assert_eq!(answer.header("allow"), "POST");
}

/// HEAD is GET without a body, but where looking would use something up.
#[tokio::test]
async fn head_answers_as_get_does() {
    let world = World::new().await;
    for route in ROUTES.iter().filter(|route| route.method == "GET") {
        let path = world.own(route);
        let head = world.as_ann(route, "HEAD", &path).await;
        assert_eq!(head.text, "", "HEAD {path}");
        if route.path.contains("/callback/") {
            assert_eq!(head.status, 405, "HEAD {path}");
            assert_eq!(head.header("allow"), "GET,POST");
        } else if !route.path.starts_with("/ws/") {
            let get = world.as_ann(route, "GET", &path).await;
            assert_eq!(head.status, get.status, "HEAD {path}");
        }
    }
}

#[tokio::test]
async fn preflights_need_no_token_and_other_origins_get_no_leave() {
    let world = World::new().await;
    for route in ROUTES {
        for slash in ["", "/"] {
            let path = world.own(route) + slash;
            let mut preflight = request("OPTIONS", &path, None, None);
            let headers = preflight.headers_mut();
            headers.insert("origin", ORIGIN.parse().unwrap());
            headers.insert(
                "access-control-request-method",
                route.method.parse().unwrap(),
            );
            let wanted = "authorization,content-type,x-csrf-token";
            headers.insert("access-control-request-headers", wanted.parse().unwrap());
            let answer = world.hub.call(preflight).await;
            assert!(matches!(answer.status, 200 | 204), "{path}");
            assert_eq!(answer.header("access-control-allow-origin"), ORIGIN);
            assert_eq!(answer.header("access-control-allow-credentials"), "true");
            assert_eq!(answer.header("access-control-max-age"), "86400");
            let methods = answer.header("access-control-allow-methods");
            for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
                assert!(methods.contains(method), "{path}: {methods}");
            }
            let names = answer.header("access-control-allow-headers");
            assert!(
                wanted.split(',').all(|name| names.contains(name)),
                "{path}: {names}"
            );
            assert_eq!(
                answer.header("x-ratelimit-limit"),
                "",
                "{path}: not counted"
            );
        }
        let path = world.own(route);
        let mut call = request(route.method, &path, None, None);
        let evil = "http://evil.example".parse().unwrap();
        call.headers_mut().insert("origin", evil);
        let answer = world.hub.call(call).await;
        assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
        let is_door = matches!(route.path, "/ws/messages" | "/socket.io");
        assert!(!is_door || answer.status == 403, "{path}");
    }
}

#[tokio::test]
async fn an_address_of_nothing_is_nowhere_for_every_method() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    for path in [
        "/nothing",
        "/api",
        "/api/nothing",
        "/api/platforms/instagram/pending",
    ] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let answer = hub.by(&ann, method, path, None).await;
            let place = format!("{method} {path}");
            assert_eq!(
                (answer.status, answer.code()),
                (404, "NOT_FOUND"),
                "{place}"
            );
        }
    }
    let answer = hub.by(&ann, "POST", "/api/telegram/auth/fax", None).await;
    assert_eq!((answer.status, answer.flat_code()), (404, "NOT_FOUND"));
}
