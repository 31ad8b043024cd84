//! What authenticated people do is counted by route, never what was refused, and never in the way.

use hub_domain::platform::Platform;
use serde_json::json;
use uuid::Uuid;

use crate::hub::{Hub, request};

async fn counted(hub: &Hub) -> Vec<(Uuid, String, i64)> {
    hub.store().usage().write().await.unwrap();
    let rows = sqlx::query_as(
        "SELECT user_id, endpoint, sum(request_count)::bigint FROM api_usage_logs \
         WHERE platform IS NULL AND account_id IS NULL GROUP BY 1, 2 ORDER BY 2, 1",
    );
    rows.fetch_all(hub.store().pool()).await.unwrap()
}

#[tokio::test]
async fn every_request_of_a_known_person_that_succeeds_is_counted_by_its_route() {
    let hub = Hub::start().await;
    let (ann, eve) = (hub.person("ann").await, hub.person("eve").await);
    assert_eq!(counted(&hub).await, [], "registering is nobody's request");
    let account = hub.account(&ann, Platform::Facebook, "page").await;
    let thread = ann.thread(account, Platform::Facebook, "t_10");
    let message = hub.receive(&ann, &thread, "m_1", "hello").await;
    let conversation = thread.conversation;
    for path in [
        "/api/auth/me",
        "/api/auth/me/",
        &format!("/api/messages/{conversation}"),
        &format!("/api/messages/{conversation}?limit=1"),
    ] {
        assert_eq!(hub.get(&ann, path).await.status, 200);
    }
    hub.get(&eve, "/api/auth/me").await;
    // Marking as read costs nobody's budget; it is use all the same.
    let read = format!("/api/messages/{message}/read");
    assert_eq!(hub.by(&ann, "PATCH", &read, None).await.status, 200);
    let sent = json!({"content": "hi"});
    let send = format!("/api/messages/{conversation}/send");
    assert_eq!(hub.by(&ann, "POST", &send, Some(&sent)).await.status, 201);

    for (path, status) in [
        ("/api/messages?limit=x", 400),
        ("/api/oauth/connect/mastodon", 400),
        ("/api/oauth/connect/whatsapp", 500),
        ("/api/nothing", 404),
        (&format!("/api/conversations/{}", Uuid::now_v7()), 404),
    ] {
        assert_eq!(hub.get(&ann, path).await.status, status, "{path}");
    }
    hub.call(request("GET", "/api/auth/me", None, None)).await;
    hub.get(&ann, "/health").await;

    let mut expected = vec![
        (ann.user.0, "GET /api/auth/me".to_owned(), 2),
        (eve.user.0, "GET /api/auth/me".to_owned(), 1),
        (ann.user.0, "GET /api/messages/{id}".to_owned(), 2),
        (ann.user.0, "PATCH /api/messages/{id}/read".to_owned(), 1),
        (ann.user.0, "POST /api/messages/{id}/send".to_owned(), 1),
    ];
    expected.sort_by_key(|(user, endpoint, _)| (endpoint.clone(), *user));
    assert_eq!(counted(&hub).await, expected);
}

#[tokio::test]
async fn counting_that_fails_changes_no_answer() {
    let hub = Hub::start().await;
    let ann = hub.person("ann").await;
    let gone = "DROP TABLE api_usage_logs";
    sqlx::raw_sql(gone)
        .execute(hub.store().pool())
        .await
        .unwrap();
    assert_eq!(hub.get(&ann, "/api/auth/me").await.status, 200);
    hub.store().usage().write().await.unwrap();
    assert_eq!(hub.get(&ann, "/api/auth/me").await.status, 200);
    assert_eq!(hub.store().usage().dropped(), 1);
}
