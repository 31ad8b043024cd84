//! Polls, with real workers on a real database and a platform that does what a test wants.

#[path = "poll/graph.rs"]
mod graph;
#[path = "poll/world.rs"]
mod world;

use std::time::Duration;

use chrono::Utc;
use hub_domain::command::PollAnswer;
use hub_domain::envelope::Append;
use hub_domain::event::AccountDisconnected;
use hub_domain::id::UserId;
use uuid::Uuid;

use graph::{Line, page_of, webhook_of};
use world::{World, eventually, line};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn what_webhooks_missed_comes_once() {
    let world = World::new().await;
    let _worker = world.worker();
    let owner = world.polled("901").await;
    let lines = [line("m_1", false), line("m_2", false), line("m_3", true)];
    for line in &lines {
        world.graph.write("901", "71", line.clone());
    }
    // One of three arrives.
    world
        .deliver("901", &webhook_of("901", "71", &lines[0]))
        .await;
    world.translated().await;
    assert_eq!(world.bring(owner).await, 2);
    eventually("all messages", async || {
        world.seen(owner.user).await.0.len() == 3
    })
    .await;
    let (seen, unread) = world.seen(owner.user).await;
    assert_eq!(unread, 2, "{seen:?}");
    assert_eq!(
        seen.iter().map(|it| it.2).collect::<Vec<_>>(),
        [false, false, true]
    );
    // Late, again, and nothing new.
    let events = world.events().await;
    for line in &lines {
        world.deliver("901", &webhook_of("901", "71", line)).await;
    }
    world.translated().await;
    assert_eq!(world.bring(owner).await, 0);
    assert_eq!(world.events().await, events);
    // Looking back on purpose reads all of it again and moves nothing.
    let since = Utc::now() - chrono::Duration::days(2);
    let key = world.wish(owner, Some(since)).await;
    assert_eq!(
        world.answer(owner, key).await,
        PollAnswer::Polled { messages: 0 }
    );
    assert_eq!(world.events().await, events);
    assert_eq!(world.seen(owner.user).await, (seen, unread));
    let pages = "SELECT count(*) FROM commands WHERE kind = 'page'";
    assert_eq!(world.count(pages).await, 2);
    let leaked = "SELECT count(*) FROM commands WHERE payload::text LIKE '%text of%' \
        OR payload::text LIKE '%secret%'";
    assert_eq!(world.count(leaked).await, 0);
}

#[tokio::test]
async fn a_quiet_account_leaves_no_trace_and_is_asked_less_often() {
    let world = World::new().await;
    let _worker = world.worker();
    let owner = world.polled("902").await;
    world.graph.write("902", "72", line("m_1", false));
    assert_eq!(world.bring(owner).await, 1);
    let traces = "SELECT (SELECT count(*) FROM events) + \
        (SELECT count(*) FROM commands WHERE kind = 'page')";
    let before = world.count(traces).await;
    assert!(
        world.is_due_within(owner, HOUR / 5).await,
        "10 minutes, spread"
    );
    for _ in 0..10 {
        assert_eq!(world.bring(owner).await, 0);
    }
    assert_eq!(world.count(traces).await, before);
    assert!(
        !world.is_due_within(owner, HOUR / 2).await,
        "40 minutes by now"
    );
    assert!(world.is_due_within(owner, HOUR).await);
    // Back at once when something comes.
    world.graph.write("902", "72", line("m_2", false));
    assert_eq!(world.bring(owner).await, 1);
    assert!(world.is_due_within(owner, HOUR / 5).await);
}

#[tokio::test]
async fn one_account_is_never_polled_twice_at_once() {
    let world = World::new().await;
    let _workers = [world.worker(), world.worker(), world.worker()];
    let one = world.polled("903").await;
    let other = world.polled("904").await;
    world.graph.slow(Duration::from_millis(40));
    for n in 0..3 {
        let person = format!("7{n}");
        world
            .graph
            .write("903", &person, line(&format!("m_{n}"), false));
    }
    let mut keys = Vec::new();
    for _ in 0..15 {
        keys.push((one, world.wish(one, None).await));
        keys.push((other, world.wish(other, None).await));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    for (owner, key) in keys {
        let answer = world.answer(owner, key).await;
        assert!(matches!(answer, PollAnswer::Polled { .. }), "{answer:?}");
    }
    assert_eq!(world.graph.state().most_at_once, 1);
    eventually("three messages", async || {
        world.seen(one.user).await.0.len() == 3
    })
    .await;
    let waiting = "SELECT count(*) FROM poll_wishes";
    assert_eq!(world.count(waiting).await, 0);
}

#[tokio::test]
async fn a_crash_between_page_and_cursor_loses_nothing_and_doubles_nothing() {
    let world = World::new().await;
    let worker = world.worker();
    let owner = world.polled("905").await;
    // Newest first: the thread of 75 is kept, the one of 74 is never answered.
    let old = Line {
        at: Utc::now() - chrono::Duration::seconds(60),
        ..line("m_old", false)
    };
    world.graph.write("905", "74", old);
    world.graph.write("905", "75", line("m_new", false));
    world.graph.hang(Some("t_905_74"));
    let key = world.wish(owner, None).await;
    let pages = "SELECT count(*) FROM commands WHERE kind = 'page'";
    eventually("a page", async || world.count(pages).await == 1).await;
    eventually("the hanging call", async || {
        world
            .graph
            .state()
            .calls
            .iter()
            .any(|it| it.contains("t_905_74"))
    })
    .await;
    world.translated().await;
    let polled = "SELECT count(*) FROM events WHERE kind = 'AccountPolled'";
    let cursors = world.count(polled).await;
    drop(worker);
    world.graph.hang(None);
    world.graph.state().calls.clear();
    // Its lease would end by itself.
    sqlx::query("UPDATE jobs SET due_at = now() WHERE queue = 'poll'")
        .execute(world.pool())
        .await
        .unwrap();
    let _worker = world.worker();
    assert_eq!(
        world.answer(owner, key).await,
        PollAnswer::Polled { messages: 1 },
        "the other one was there already"
    );
    assert_eq!(world.count(pages).await, 3, "the first page came again");
    assert_eq!(world.count(polled).await, cursors + 1);
    let received = "SELECT count(*) FROM events WHERE kind = 'MessageReceived'";
    assert_eq!(world.count(received).await, 2);
    assert_eq!(world.bring(owner).await, 0);
}

#[tokio::test]
async fn whatever_goes_wrong_the_account_stays_in_the_schedule() {
    let world = World::new().await;
    let _worker = world.worker();
    let owner = world.polled("906").await;
    let failed = |answer| match answer {
        PollAnswer::Failed {
            message,
            retryable,
            retry_after_s,
        } => (message, retryable, retry_after_s),
        polled @ PollAnswer::Polled { .. } => panic!("{polled:?}"),
    };
    // Broken for a moment: whoever waits is told, and it is tried again.
    let polls = world.polls(owner).await;
    world.graph.fail(500, 2, None);
    let (message, retryable, wait) = failed(world.ask(owner).await);
    assert!(message.contains("as the test wants it"), "{message}");
    assert_eq!((retryable, wait), (true, None));
    eventually("the second try", async || {
        world.polls(owner).await == polls + 1
    })
    .await;
    world.rest().await;
    let stats = world
        .store
        .poll_stats(owner.user, &["facebook"])
        .await
        .unwrap();
    assert_eq!((stats.failed, stats.waiting, stats.active), (0, 0, 0));

    // Refused for good.
    world.graph.fail(400, 100, None);
    let (_, retryable, _) = failed(world.ask(owner).await);
    assert!(!retryable);
    assert!(world.is_due_within(owner, HOUR).await);

    // Asked to wait: nobody's wish goes before.
    world.graph.fail(400, 4, Some(1800));
    let (_, retryable, wait) = failed(world.ask(owner).await);
    assert_eq!((retryable, wait), (true, Some(1800)));
    let calls = world.graph.calls();
    let (_, retryable, wait) = failed(world.ask(owner).await);
    assert!(
        retryable && wait.is_some_and(|wait| wait > 1700),
        "{wait:?}"
    );
    assert_eq!(world.graph.calls(), calls);
    assert!(!world.is_due_within(owner, HOUR / 4).await);
    assert!(world.is_due_within(owner, HOUR).await);
    sqlx::query("UPDATE polls SET held_until = NULL")
        .execute(world.pool())
        .await
        .unwrap();
    assert_eq!(world.bring(owner).await, 0);
    let stats = world
        .store
        .poll_stats(owner.user, &["facebook"])
        .await
        .unwrap();
    assert_eq!(stats.failed, 2);
    let parked = "SELECT count(*) FROM jobs WHERE parked_at IS NOT NULL";
    assert_eq!(world.count(parked).await, 0);
}

#[tokio::test]
async fn an_account_rests_until_it_is_connected_again_and_leaves_when_it_is_disconnected() {
    let world = World::new().await;
    let _worker = world.worker();
    let owner = world.polled("907").await;
    world.graph.fail(400, 190, None);
    let refused = |answer| matches!(answer, PollAnswer::Failed { retryable, .. } if !retryable);
    assert!(refused(world.ask(owner).await));
    let marked = "SELECT count(*) FROM events WHERE kind = 'AccountNeedsReconnect'";
    assert_eq!(world.count(marked).await, 1);
    let calls = world.graph.calls();
    assert!(
        refused(world.ask(owner).await),
        "not asked, and it says why"
    );
    assert!(!world.is_due_within(owner, 24 * HOUR).await);
    assert_eq!(world.graph.calls(), calls);

    let polls = world.polls(owner).await;
    world.graph.write("907", "77", line("m_1", false));
    world.connect(owner.user, "907").await;
    eventually("the poll of the new start", async || {
        world.polls(owner).await > polls
    })
    .await;
    eventually("what came meanwhile", async || {
        world.seen(owner.user).await.0.len() == 1
    })
    .await;
    assert!(world.is_due_within(owner, HOUR).await);

    let event = AccountDisconnected {
        user: owner.user,
        account: owner.account,
    };
    let shard = world.store.sharding().of_user(owner.user);
    let append = Append::one(shard, owner.account, event);
    world.store.append(append).await.unwrap();
    let calls = world.graph.calls();
    assert!(refused(world.ask(owner).await));
    assert!(!world.is_due_within(owner, 24 * HOUR).await);
    let asked = world.graph.state().calls[calls..]
        .iter()
        .filter(|it| it.contains("conversations"))
        .count();
    assert_eq!(asked, 0);
}

#[tokio::test]
async fn an_answer_to_an_old_token_says_nothing_about_a_new_one() {
    let world = World::new().await;
    let _worker = world.worker();
    let owner = world.polled("909").await;
    world.graph.slow(Duration::from_millis(700));
    world.graph.fail(400, 190, None);
    let calls = world.graph.calls();
    let key = world.wish(owner, None).await;
    eventually("the call", async || world.graph.calls() > calls).await;
    // While it is on its way, somebody connects the account again.
    world.give_token(owner, "909", "another token").await;
    // The poll is tried once more, with the token that is there now.
    let answer = world.answer(owner, key).await;
    assert!(matches!(answer, PollAnswer::Polled { .. }), "{answer:?}");
    assert!(world.graph.calls() > calls + 1);
    let marked = "SELECT count(*) FROM events WHERE kind = 'AccountNeedsReconnect'";
    assert_eq!(world.count(marked).await, 0);
    assert!(world.is_due_within(owner, HOUR).await);
}

/// Not more than a sketch of randomness: the same seed gives the same order.
fn shuffled<T>(mut items: Vec<T>, seed: u64) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for at in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        items.swap(at, (state % (at as u64 + 1)) as usize);
    }
    items
}

#[tokio::test]
async fn pages_and_webhooks_in_any_order_are_one_history() {
    enum Input {
        Webhook(usize),
        Page(std::ops::Range<usize>),
    }
    let world = World::new().await;
    let _worker = world.worker();
    let lines: Vec<_> = (0..6)
        .map(|n| Line {
            at: Utc::now() - chrono::Duration::seconds(600 - n),
            ..line(&format!("m_{n}"), n % 3 == 2)
        })
        .collect();
    let mut told = Vec::new();
    for seed in 1..=12 {
        let page = format!("98{seed}");
        let owner = world.connect(UserId(Uuid::now_v7()), &page).await;
        let mut inputs: Vec<_> = [0, 1, 3, 4, 5, 1].map(Input::Webhook).into();
        inputs.extend([Input::Page(0..4), Input::Page(2..6), Input::Page(2..6)]);
        for input in shuffled(inputs, seed) {
            match input {
                Input::Webhook(n) => {
                    let body = webhook_of(&page, "78", &lines[n]);
                    world.deliver(&page, &body).await;
                }
                Input::Page(range) => {
                    let body = page_of(&page, "78", lines[range].iter().rev());
                    world.fetched(&page, owner, &body).await;
                }
            }
        }
        told.push(owner.user);
    }
    world.translated().await;
    let expected: Vec<_> = lines
        .iter()
        .map(|line| {
            let at = chrono::SubsecRound::trunc_subsecs(line.at, 0);
            (line.mid.clone(), line.text.clone(), line.by_page, at)
        })
        .collect();
    for user in told {
        eventually("all six", async || world.seen(user).await.0.len() == 6).await;
        assert_eq!(world.seen(user).await, (expected.clone(), 4));
    }
}

/// Somebody else has connected the same Page: what my token may read is not theirs by that.
#[tokio::test]
async fn a_page_is_for_the_account_it_was_fetched_for() {
    let world = World::new().await;
    let _worker = world.worker();
    let mine = world.polled("908").await;
    let theirs = world.polled("908").await;
    world.graph.write("908", "79", line("m_1", false));
    assert_eq!(world.bring(mine).await, 1);
    eventually("my message", async || {
        world.seen(mine.user).await.0.len() == 1
    })
    .await;
    assert_eq!(world.seen(theirs.user).await, (Vec::new(), 0));
    assert_eq!(world.bring(theirs).await, 1);
}
