//! Budgets of calls, and pauses a platform asks for, as the platform sees them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::apart::{Apart, Redis};
use crate::world::{User, World, eventually};

/// Five calls in four seconds.
const FIVE: (&str, &str) = ("HUB_BUDGET_FACEBOOK", "5/4");
const WINDOW_MS: i64 = 4_000;

/// The hub counts a call before it leaves: on a busy machine the way there takes its time, and not
/// always the same.
const ON_THE_WAY_MS: i64 = 700;

/// Times of calls in the account's name, from the one after connecting on.
async fn calls(world: &World, skip: usize) -> Vec<i64> {
    let requests = world.requests().await;
    let of_account = |(_, path, _): &&(String, String, i64)| path.starts_with("/v26.0/");
    let calls = requests.iter().filter(of_account).skip(skip);
    calls.map(|(_, _, at)| *at).collect()
}

/// Twenty answers in two conversations, more than a budget of five takes in four windows.
async fn twenty_sends(world: &World, nodes: [&User; 2]) {
    let (_, page) = world.connect_facebook(nodes[0]).await;
    let mut conversations = Vec::new();
    for from in ["801", "802"] {
        world.incoming(&page, from, "hello").await.expect(200);
    }
    eventually("both conversations", Duration::from_secs(20), async || {
        let answer = nodes[0].get("/api/conversations").await;
        let all = answer.body["conversations"].as_array().cloned();
        conversations = all.unwrap_or_default();
        if conversations.len() == 2 {
            Ok(())
        } else {
            Err(answer.raw)
        }
    })
    .await;
    // Names are asked for as well. After a window everybody is counted out again.
    tokio::time::sleep(Duration::from_millis(WINDOW_MS as u64)).await;
    let before = calls(world, 0).await.len();
    for n in 0..20 {
        let id = conversations[n % 2]["id"].as_str().expect("an id");
        nodes[n % 2].queue(id, &format!("answer {n}")).await;
    }
    let sent = eventually("all answers", Duration::from_secs(60), async || {
        let sent = world.sent(&page).await;
        if sent.len() >= 20 {
            Ok(sent)
        } else {
            Err(sent.len())
        }
    })
    .await;
    for from in ["801", "802"] {
        let of_one: Vec<&Value> = sent.iter().filter(|it| it["to"] == from).collect();
        let numbers: Vec<u32> = of_one
            .iter()
            .filter_map(|it| it["text"].as_str()?.strip_prefix("answer ")?.parse().ok())
            .collect();
        assert_eq!(numbers.len(), 10, "{from}: each once");
        assert!(numbers.is_sorted(), "{from}: {numbers:?}");
    }
    let times = calls(world, before).await;
    for (first, sixth) in times.iter().zip(times.iter().skip(5)) {
        let apart = sixth - first;
        assert!(apart >= WINDOW_MS - ON_THE_WAY_MS, "{apart} ms: {times:?}");
    }
}

#[tokio::test]
async fn a_budget_of_five_is_kept_by_two_workers_with_redis() {
    let Some(redis) = Redis::start().await else {
        return;
    };
    let apart = Apart::start(Some(&redis.url()), &[FIVE]).await;
    let (world, other) = (apart.world(0), apart.world(1));
    let user = world.register().await;
    twenty_sends(&world, [&user, &user.at(&other)]).await;
}

#[tokio::test]
async fn a_budget_of_five_is_kept_without_redis_and_everybody_can_see_it() {
    let world = World::with(&[FIVE, ("HUB_SEND_WAIT_MS", "500")]).await;
    let user = world.register().await;
    twenty_sends(&world, [&user, &user]).await;

    let limits = user.get("/api/oauth/rate-limits").await;
    limits.expect(200);
    let limit = &limits.body["rateLimits"][0];
    assert_eq!(
        (&limit["limit"], &limit["windowMs"]),
        (&json!(5), &json!(4_000))
    );
    tokio::time::sleep(Duration::from_millis(WINDOW_MS as u64)).await;
    let answer = user.get("/api/conversations").await;
    let id = answer.text("/conversations/0/id");
    for left in (0..5).rev() {
        user.send(&id, "one more").await.expect(201);
        let limits = user.get("/api/oauth/rate-limits").await;
        assert_eq!(limits.body["rateLimits"][0]["remaining"], left);
    }
    // Refused before it is accepted: nothing of it is ever sent.
    let sent = world.sent_in_all().await;
    let refused = user.send(&id, "too much").await;
    refused.refuses(429, "PLATFORM_RATE_LIMIT_EXCEEDED");
    let details = &refused.body["error"]["details"];
    assert_eq!(
        (&details["platform"], &details["limit"]),
        (&json!("facebook"), &json!(5))
    );
    let wait = details["retryAfter"].as_u64().expect("seconds");
    assert!((1..=4).contains(&wait), "{}", refused.raw);
    assert_eq!(
        refused.header("retry-after"),
        Some(wait.to_string().as_str())
    );
    tokio::time::sleep(Duration::from_secs(wait)).await;
    user.send(&id, "after all").await.expect(201);
    assert_eq!(world.sent_in_all().await, sent + 1);
}

#[tokio::test]
async fn a_pause_the_platform_asks_for_holds_for_all_conversations_of_the_account() {
    let apart = Apart::start(None, &[]).await;
    let world = apart.world(0);
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    for n in 0..6 {
        let from = format!("80{n}");
        world.incoming(&page, &from, "hello").await.expect(200);
    }
    let ids = eventually("the conversations", Duration::from_secs(20), async || {
        let answer = user.get("/api/conversations").await;
        let all = answer.body["conversations"].as_array().cloned();
        let all = all.unwrap_or_default();
        if all.len() == 6 {
            Ok(all)
        } else {
            Err(answer.raw)
        }
    })
    .await;
    let id = |n: usize| ids[n]["id"].as_str().expect("an id");
    world
        .fault(
            json!({"platform": "facebook", "op": "send", "mode": "status", "status": 429,
                      "retryAfter": 3, "times": 1}),
        )
        .await;
    let sends = async || {
        let requests = world.requests().await;
        let is_send = |it: &&(String, String, i64)| it.0 == "POST" && it.1.ends_with("/messages");
        let times = requests.iter().filter(is_send).map(|it| it.2);
        times.collect::<Vec<i64>>()
    };
    user.send(id(0), "first").await.expect(201);
    assert_eq!(sends().await.len(), 1);
    for n in 1..6 {
        user.queue(id(n), "others").await;
    }
    eventually("all of them", Duration::from_secs(20), async || {
        let sent = world.sent(&page).await.len();
        if sent == 6 { Ok(()) } else { Err(sent) }
    })
    .await;
    let times = sends().await;
    assert_eq!(times.len(), 7, "one refusal, six messages");
    let pause = times[1] - times[0];
    assert!(pause >= 2_900, "somebody called after {pause} ms");
}
