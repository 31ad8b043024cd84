//! A minute of everything at once while processes are killed at random: afterwards all is there,
//! once.
//!
//! API and worker are processes of their own, the platform is played in the test and survives. It
//! delivers webhooks twice, in the wrong order or never, and now and then takes a message and does
//! not say so: a send whose worker dies meanwhile, and whose echo is lost, stays unclear. The seed is printed; `HUB_SEED` repeats the choices (not the races), `HUB_SOAK_SECONDS` makes
//! it last.

use std::collections::{HashMap, HashSet};
use std::process::{Child, Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::apart::{play, settings, verb};
use crate::world::{User, World, eventually, free_port};

/// Customers who write, one conversation each.
const CUSTOMERS: u64 = 6;

/// A send whose process died comes back when its lease of 90 s ends, an unclear one is waited for,
/// and there may be several one after the other.
const SETTLED_WITHIN: Duration = Duration::from_secs(400);

/// SplitMix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    async fn pause(&mut self, from_ms: u64, to_ms: u64) {
        let pause = from_ms + self.below(to_ms - from_ms);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// One API process and one worker.
struct Roles {
    settings: Vec<(&'static str, String)>,
    running: Vec<(&'static str, Child)>,
}

impl Roles {
    fn start(settings: Vec<(&'static str, String)>) -> Self {
        let running = ["api", "worker"].map(|role| (role, verb(role, &settings)));
        Self {
            settings,
            running: running.into(),
        }
    }

    /// kill -9, and start again at once.
    fn kill(&mut self, index: usize) -> &'static str {
        let (role, child) = &mut self.running[index];
        child.kill().expect("a process can be killed");
        child.wait().expect("it is gone");
        *child = verb(role, &self.settings);
        role
    }
}

impl Drop for Roles {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What became of a customer's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// The hub answered 200: it has it.
    Taken,
    /// The platform brings it until the hub has it.
    ComesAgain,
    /// The platform did not deliver it, or did not say.
    Perhaps,
}

/// What takes part in the traffic.
struct Scene {
    world: World,
    user: User,
    page: String,
    conversations: Vec<String>,
    until: Instant,
}

impl Scene {
    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.world.base())
    }

    /// A customer writes.
    async fn incoming(&self, customer: u64, text: &str) -> Told {
        let body = json!({
            "platform": "facebook", "account": self.page,
            "from": { "id": format!("70{customer}"), "name": format!("Customer {customer}") },
            "text": text,
        });
        let url = format!("{}/control/incoming", self.world.sandbox());
        let Some(answer) = self.world.http().post_or_none(&url, &body).await else {
            return Told::Perhaps;
        };
        match (answer.body["status"].as_u64(), &answer.body["outcome"]) {
            (Some(200), _) => Told::Taken,
            (_, outcome) if outcome == "dropped" => Told::Perhaps,
            _ => Told::ComesAgain,
        }
    }

    /// Everything the user sees, thread by thread; `None` when the API did not answer.
    async fn messages(&self) -> Option<Vec<Value>> {
        let mut all = Vec::new();
        for id in &self.conversations {
            let mut offset = 0;
            loop {
                let url = self.url(&format!("/api/messages/{id}?limit=100&offset={offset}"));
                let page = self.user.http.try_get(&url).await?;
                let messages = page.body["messages"].as_array()?;
                all.extend(messages.iter().cloned());
                offset += messages.len();
                if page.body["hasMore"] != json!(true) {
                    break;
                }
            }
        }
        Some(all)
    }
}

/// Customers write all the time.
async fn customers(scene: Arc<Scene>, mut dice: Dice) -> Vec<(String, Told)> {
    let mut told = Vec::new();
    while scene.goes_on() {
        let text = format!("in {}", told.len());
        let became = scene.incoming(dice.below(CUSTOMERS), &text).await;
        told.push((text, became));
        dice.pause(10, 60).await;
    }
    told
}

/// The user answers all the time, and like a careful client repeats a send it heard nothing of.
/// Every text, and whether it was answered 201.
async fn answers(scene: Arc<Scene>, name: usize, mut dice: Dice) -> Vec<(String, bool)> {
    let mut sends = Vec::new();
    while scene.goes_on() {
        let text = format!("out {name}.{}", sends.len());
        let conversation = &scene.conversations[dice.below(CUSTOMERS) as usize];
        let url = scene.url(&format!("/api/messages/{conversation}/send"));
        let body = json!({ "content": text }).to_string().into_bytes();
        let headers = [
            ("content-type", "application/json"),
            ("idempotency-key", text.as_str()),
        ];
        let patience = scene.until.max(Instant::now()) + Duration::from_secs(30);
        let accepted = loop {
            let sent = scene.user.http.try_post_raw(&url, &headers, body.clone());
            match sent.await {
                Some(answer) if answer.status == 201 => break true,
                Some(answer) if answer.status < 500 => panic!("{text}: {}", answer.raw),
                _ if Instant::now() > patience => break false,
                _ => dice.pause(50, 150).await,
            }
        };
        sends.push((text, accepted));
        dice.pause(10, 200).await;
    }
    sends
}

/// The user reads now one message, now a whole conversation. Returns how many marks were taken.
async fn reading(scene: Arc<Scene>, mut dice: Dice) -> u64 {
    let mut marks = 0;
    while scene.goes_on() {
        dice.pause(50, 250).await;
        let id = &scene.conversations[dice.below(CUSTOMERS) as usize];
        let path = if dice.below(8) == 0 {
            format!("/api/messages/conversation/{id}/read")
        } else {
            let url = scene.url(&format!("/api/messages/{id}?limit=10"));
            let Some(page) = scene.user.http.try_get(&url).await else {
                continue;
            };
            let unread = page.body["messages"].as_array().and_then(|messages| {
                let mut messages = messages.iter();
                messages.find(|it| it["isOutgoing"] == false && it["isRead"] == false)
            });
            let Some(message) = unread.and_then(|it| it["id"].as_str()) else {
                continue;
            };
            format!("/api/messages/{message}/read")
        };
        let answer = scene.user.http.patch_or_none(&scene.url(&path)).await;
        marks += u64::from(answer.is_some_and(|answer| answer.status == 200));
    }
    marks
}

/// A verb that ends by itself.
fn hub(settings: &[(&'static str, String)], arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hub"))
        .args(arguments)
        .env_clear()
        .envs(settings.iter().map(|(name, value)| (*name, value)))
        .output()
        .expect("the binary runs")
}

fn lines(output: &Output) -> Vec<Value> {
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines()
        .map(|line| serde_json::from_str(line).expect("one JSON object a line"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_all_is_there_once() {
    let seed = number("HUB_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    let lasts = Duration::from_secs(number("HUB_SOAK_SECONDS").unwrap_or(60));
    eprintln!("HUB_SEED={seed} HUB_SOAK_SECONDS={}", lasts.as_secs());
    let mut dice = Dice(seed);

    let cluster = hub_cluster::shared_for_tests().await.expect("a cluster");
    let database = cluster.empty_database().await.expect("a database");
    let (port, sandbox) = (free_port(), free_port());
    let base = format!("http://127.0.0.1:{port}");
    play(sandbox, &base).await;
    let mut settings = settings(
        database.url(),
        &base,
        &format!("http://127.0.0.1:{sandbox}"),
    );
    settings.extend([
        ("PORT", port.to_string()),
        ("HUB_ACCESS_TTL_SECONDS", "604800".to_owned()),
        ("HUB_RECONCILE_WINDOW_SECONDS", "10".to_owned()),
        ("HUB_HTTP_TIMEOUT_MS", "2000".to_owned()),
    ]);
    assert!(hub(&settings, &["migrate"]).status.success());
    let mut roles = Roles::start(settings.clone());
    let scene = set(World::elsewhere(port, sandbox), lasts).await;

    for (op, mode, rate) in [
        ("webhook", "duplicate", 0.3),
        ("webhook", "reorder", 0.1),
        ("webhook", "drop", 0.2),
        ("send", "accept_no_reply", 0.3),
    ] {
        let seed = dice.below(u64::MAX);
        let fault = json!({
            "platform": "facebook", "op": op, "mode": mode, "rate": rate, "seed": seed,
        });
        scene.world.fault(fault).await;
    }
    let traffic = (
        tokio::spawn(customers(scene.clone(), Dice(dice.below(u64::MAX)))),
        [0, 1].map(|n| {
            let dice = Dice(dice.below(u64::MAX));
            tokio::spawn(answers(scene.clone(), n, dice))
        }),
        tokio::spawn(reading(scene.clone(), Dice(dice.below(u64::MAX)))),
    );
    let mut kills = HashMap::new();
    while scene.goes_on() {
        dice.pause(1_000, 5_000).await;
        // The worker more often: it is the one that has calls under way.
        let role = roles.kill(dice.below(3).min(1) as usize);
        *kills.entry(role).or_insert(0) += 1;
    }
    let told = traffic.0.await.expect("customers");
    let mut sends = Vec::new();
    for answers in traffic.1 {
        sends.extend(answers.await.expect("answers"));
    }
    let marks = traffic.2.await.expect("reading");
    let taken = told.iter().filter(|(_, it)| *it == Told::Taken).count();
    let accepted = sends.iter().filter(|(_, accepted)| *accepted).count();
    eprintln!(
        "killed {kills:?}; {} webhooks, {taken} taken at once; {} sends, {accepted} accepted; \
         {marks} marks",
        told.len(),
        sends.len()
    );
    assert!(taken > 0 && accepted > 0 && marks > 0, "there was traffic");

    let faults = format!("{}/control/faults", scene.world.sandbox());
    scene.world.http().delete(&faults).await.expect(200);
    let messages = settled(&scene, &told, &sends).await;
    check_messages(&scene, &messages, &told, &sends).await;
    let pool = sqlx::PgPool::connect(database.url()).await;
    check_unread(&pool.expect("the database")).await;
    check_verdicts(&settings, database.url()).await;
}

/// A user with a page and a conversation with every customer.
async fn set(world: World, lasts: Duration) -> Arc<Scene> {
    eventually("the API", Duration::from_secs(30), async || {
        let health = world
            .http()
            .try_get(&format!("{}/health", world.base()))
            .await;
        health.filter(|it| it.status == 200).ok_or("not yet")
    })
    .await;
    let user = world.register().await;
    let (_, page) = world.connect_facebook(&user).await;
    let mut scene = Scene {
        world,
        user,
        page,
        conversations: Vec::new(),
        until: Instant::now(),
    };
    for customer in 0..CUSTOMERS {
        assert_eq!(scene.incoming(customer, "hello").await, Told::Taken);
    }
    scene.conversations = eventually("conversations", Duration::from_secs(30), async || {
        let answer = scene.user.get("/api/conversations").await;
        let found = answer.body["conversations"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let ids = found
            .iter()
            .filter_map(|it| Some(it["id"].as_str()?.to_owned()));
        let ids: Vec<String> = ids.collect();
        if ids.len() as u64 == CUSTOMERS {
            Ok(ids)
        } else {
            Err(answer.raw)
        }
    })
    .await;
    scene.until = Instant::now() + lasts;
    Arc::new(scene)
}

/// Waits until every text is there and no send is under way any more. The platform comes again with
/// what the hub did not take, so nothing of that may be lost either.
async fn settled(scene: &Scene, told: &[(String, Told)], sends: &[(String, bool)]) -> Vec<Value> {
    eventually("everything is settled", SETTLED_WITHIN, async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let Some(messages) = scene.messages().await else {
            return Err("the API does not answer".to_owned());
        };
        let there: HashSet<&str> = messages
            .iter()
            .filter_map(|it| it["content"].as_str())
            .collect();
        let comes = told.iter().filter(|(_, it)| *it != Told::Perhaps);
        let accepted = sends.iter().filter(|(_, accepted)| *accepted);
        let missing: Vec<&String> = comes
            .map(|(text, _)| text)
            .chain(accepted.map(|(text, _)| text))
            .filter(|text| !there.contains(text.as_str()))
            .collect();
        let under_way: Vec<&Value> = messages
            .iter()
            .filter(|it| {
                ["queued", "sending", "delayed"].contains(&it["status"].as_str().unwrap_or(""))
            })
            .collect();
        if missing.is_empty() && under_way.is_empty() {
            Ok(messages)
        } else {
            Err(format!("missing {missing:?}, under way {under_way:?}"))
        }
    })
    .await
}

/// Every text once in the inbox; every send once or never at the platform, as its state says.
async fn check_messages(
    scene: &Scene,
    messages: &[Value],
    told: &[(String, Told)],
    sends: &[(String, bool)],
) {
    let mut shown: HashMap<&str, Vec<&Value>> = HashMap::new();
    for message in messages {
        let text = message["content"].as_str().expect("a text");
        shown.entry(text).or_default().push(message);
    }
    assert_eq!(
        shown.remove("hello").map(|it| it.len() as u64),
        Some(CUSTOMERS)
    );
    for (text, became) in told {
        let shown = shown.remove(text.as_str()).unwrap_or_default();
        let fits = shown.len() == 1 || (shown.is_empty() && *became == Told::Perhaps);
        assert!(fits, "{text} was {became:?}: {shown:?}");
        assert!(shown.iter().all(|it| it["isOutgoing"] == false), "{text}");
    }
    let mut effects: HashMap<String, usize> = HashMap::new();
    for sent in scene.world.sent(&scene.page).await {
        let text = sent["text"].as_str().expect("a text").to_owned();
        *effects.entry(text).or_default() += 1;
    }
    let mut states: HashMap<String, usize> = HashMap::new();
    for (text, accepted) in sends {
        let shown = shown.remove(text.as_str()).unwrap_or_default();
        assert!(shown.len() <= 1, "{text}: {shown:?}");
        assert!(!accepted || shown.len() == 1, "{text} was lost");
        let state = shown
            .first()
            .map_or("none", |it| it["status"].as_str().expect("a state"));
        let effects = effects.remove(text).unwrap_or(0);
        let fits = match state {
            "sent" => effects == 1,
            "uncertain" => effects <= 1,
            "failed" | "none" => effects == 0,
            _ => false,
        };
        assert!(fits, "{text} is {state} and arrived {effects} times");
        *states.entry(state.to_owned()).or_default() += 1;
    }
    eprintln!("sends ended as {states:?}");
    assert!(states["sent"] * 2 > sends.len(), "most sends are clear");
    assert!(shown.is_empty(), "nobody wrote {shown:?}");
    assert!(effects.is_empty(), "nobody sent {effects:?}");
}

/// The counters of conversations are what counting their messages gives.
async fn check_unread(pool: &sqlx::PgPool) {
    let (conversations, different): (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE c.unread <> ( \
             SELECT count(*) FROM read.messages m \
             WHERE m.shard = c.shard AND m.generation = c.generation \
                 AND m.conversation_id = c.id AND m.state = 'received' AND NOT m.is_read \
                 AND m.deleted_at IS NULL AND m.position > c.read_through)) \
         FROM read.conversations c",
    )
    .fetch_one(pool)
    .await
    .expect("counts");
    assert_eq!((conversations, different), (CUSTOMERS as i64, 0));
}

/// The read models are what the log says, the log is what was sealed, and damage would be seen.
async fn check_verdicts(settings: &[(&'static str, String)], database: &str) {
    let all = hub(settings, &["verify", "all", "--json"]);
    assert!(all.status.success(), "{all:?}");
    let all = lines(&all);
    assert_eq!(all.len(), 3);
    for certificate in all {
        assert_eq!(certificate["verdict"], "equal", "{certificate}");
    }
    let log = eventually(
        "everything is sealed",
        Duration::from_secs(60),
        async || {
            let output = hub(settings, &["verify", "log", "--json"]);
            assert!(output.status.success(), "{output:?}");
            let log = lines(&output).remove(0);
            if log["unsealed"] == json!(0) {
                Ok(log)
            } else {
                Err(log)
            }
        },
    )
    .await;
    assert_eq!(log["verdict"], "equal", "{log}");
    assert_eq!(log["macs_checked"], true, "{log}");
    assert_eq!(log["verified"], log["events"], "{log}");

    let file = std::env::temp_dir().join(format!("hub-heads-{}.jsonl", uuid::Uuid::new_v4()));
    let path = file.to_str().expect("a path in Unicode");
    let export = ["seals", "export", "--heads", "--out", path];
    assert!(hub(settings, &export).status.success());
    assert!(!hub(settings, &export).status.success(), "not overwritten");
    let against = ["verify", "log", "--against", path];
    let output = hub(settings, &against);
    assert!(output.status.success(), "{output:?}");
    let pool = sqlx::PgPool::connect(database).await.expect("the database");
    let altered: String = sqlx::query_scalar(
        "UPDATE events SET meta = '{\"altered\":1}' WHERE (shard, position) = \
             (SELECT shard, max(position) / 2 + 1 FROM events GROUP BY 1 \
              ORDER BY 2 DESC LIMIT 1) \
         RETURNING shard || '-' || position",
    )
    .fetch_one(&pool)
    .await
    .expect("an altered event");
    let output = hub(settings, &against);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(&format!("{altered} was altered")), "{said}");
    let _ = std::fs::remove_file(file);
}
