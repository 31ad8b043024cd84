//! A real server: started, killed, orphaned, shared.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use hub_cluster::{Cluster, Options, SharedCluster, shared_for_tests};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

/// A folder that disappears with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("hub-cluster-{}", Uuid::now_v7().simple());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

async fn start(folder: &Folder) -> Cluster {
    let began = Instant::now();
    let cluster = Cluster::start(&folder.0, Options::default()).await.unwrap();
    eprintln!("ready in {:?}", began.elapsed());
    cluster
}

async fn connect(cluster: &Cluster, database: &str) -> PgConnection {
    PgConnection::connect(&cluster.url(database)).await.unwrap()
}

async fn notes(cluster: &Cluster) -> i64 {
    let mut connection = connect(cluster, "notes").await;
    sqlx::query_scalar("SELECT count(*) FROM note")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

/// A database with one committed row.
async fn take_note(cluster: &Cluster) {
    cluster.create_database("notes").await.unwrap();
    let mut connection = connect(cluster, "notes").await;
    sqlx::raw_sql("CREATE TABLE note (text text); INSERT INTO note VALUES ('kept')")
        .execute(&mut connection)
        .await
        .unwrap();
}

fn kill_hard(pid: u32) {
    let killed = Command::new("sh")
        .args(["-c", "kill -s KILL \"$0\"", &pid.to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
}

/// Another process that runs one test of this file.
fn run_again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command
}

#[tokio::test]
async fn data_is_durable_and_survives_stop_and_start() {
    let folder = Folder::new();
    let cluster = start(&folder).await;
    for (name, expected) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("listen_addresses", ""),
    ] {
        let mut connection = connect(&cluster, "postgres").await;
        let value: String = sqlx::query_scalar("SELECT current_setting($1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(value, expected, "{name}");
    }
    assert!(cluster.ensure_database("odd \"name\"").await.unwrap());
    assert!(!cluster.ensure_database("odd \"name\"").await.unwrap());
    cluster.drop_database("odd \"name\"").await.unwrap();
    take_note(&cluster).await;
    let pid_file = cluster.data_dir().join("postmaster.pid");
    let began = Instant::now();
    cluster.stop().await.unwrap();
    eprintln!("stopped in {:?}", began.elapsed());
    assert!(!pid_file.exists(), "not a clean stop");
    let cluster = start(&folder).await;
    assert_eq!(notes(&cluster).await, 1);
    drop(cluster);
    assert!(!pid_file.exists(), "dropping it stops it too");
}

#[tokio::test]
async fn what_was_committed_survives_crashes() {
    let folder = Folder::new();
    let mut cluster = start(&folder).await;
    take_note(&cluster).await;
    cluster.restart_immediate().await.unwrap();
    assert_eq!(notes(&cluster).await, 1);
    kill_hard(cluster.pid().unwrap());
    cluster.restart_immediate().await.unwrap();
    assert_eq!(notes(&cluster).await, 1);
    // Killed, and started by another process's eyes: only the stale file tells of it.
    kill_hard(cluster.pid().unwrap());
    drop(cluster);
    let cluster = start(&folder).await;
    assert_eq!(notes(&cluster).await, 1);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_pid_file_that_names_some_other_process_is_no_obstacle() {
    let folder = Folder::new();
    let cluster = start(&folder).await;
    let pid_file = cluster.data_dir().join("postmaster.pid");
    let text = std::fs::read_to_string(&pid_file).unwrap();
    kill_hard(cluster.pid().unwrap());
    drop(cluster);
    let rest = text.split_once('\n').unwrap().1;
    std::fs::write(&pid_file, format!("{}\n{rest}", std::process::id())).unwrap();
    start(&folder).await.stop().await.unwrap();
}

/// This test runs its own binary as the hub that is killed.
#[tokio::test]
async fn the_server_of_a_killed_process_is_adopted_and_then_stopped() {
    const NAME: &str = "HUB_CLUSTER_ORPHAN";
    if let Some(folder) = std::env::var_os(NAME) {
        let cluster = Cluster::start(folder.as_ref(), Options::default())
            .await
            .unwrap();
        take_note(&cluster).await;
        kill_hard(std::process::id());
        std::future::pending::<()>().await;
    }
    let folder = Folder::new();
    let killed = run_again("the_server_of_a_killed_process_is_adopted_and_then_stopped")
        .env(NAME, &folder.0)
        .status()
        .unwrap();
    assert!(!killed.success());
    let cluster = start(&folder).await;
    let pid_file = cluster.data_dir().join("postmaster.pid");
    // A server of our own would have crashed into the old one's data or started anew.
    let log = std::fs::read_to_string(cluster.log_file()).unwrap();
    assert_eq!(log.matches("starting PostgreSQL").count(), 1, "{log}");
    assert_eq!(notes(&cluster).await, 1);
    cluster.stop().await.unwrap();
    assert!(!pid_file.exists());
}

#[tokio::test]
async fn the_last_of_several_users_stops_the_server() {
    let folder = Folder::new();
    let first = start(&folder).await;
    let second = start(&folder).await;
    assert_eq!(first.pid(), second.pid());
    first.stop().await.unwrap();
    connect(&second, "postgres").await;
    let pid_file = second.data_dir().join("postmaster.pid");
    second.stop().await.unwrap();
    assert!(!pid_file.exists());
}

#[tokio::test]
async fn cut_connections_are_counted_and_only_those_of_one_database() {
    let folder = Folder::new();
    let cluster = start(&folder).await;
    cluster.create_database("a").await.unwrap();
    cluster.create_database("b").await.unwrap();
    let mut cut = [connect(&cluster, "a").await, connect(&cluster, "a").await];
    let mut spared = connect(&cluster, "b").await;
    assert_eq!(cluster.terminate_backends("a").await.unwrap(), 2);
    for connection in &mut cut {
        assert!(connection.ping().await.is_err());
    }
    spared.ping().await.unwrap();
    cluster.stop().await.unwrap();
}

async fn prepare(url: String) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(&url).await?;
    // Slow enough for two callers to meet here if nothing kept them apart.
    sqlx::raw_sql("CREATE TABLE made (at timestamptz DEFAULT now()); SELECT pg_sleep(0.2)")
        .execute(&mut connection)
        .await?;
    sqlx::raw_sql("INSERT INTO made DEFAULT VALUES")
        .execute(&mut connection)
        .await?;
    Ok(())
}

async fn made(shared: &SharedCluster, fingerprint: &str) -> String {
    let database = shared.database(fingerprint, prepare).await.unwrap();
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    sqlx::query_scalar("SELECT string_agg(at::text, ',') FROM made")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_tests_share_one_server_and_one_template() {
    let racing = (0..4).map(|_| tokio::spawn(shared_for_tests()));
    let mut first = None;
    for joined in racing.collect::<Vec<_>>() {
        let shared = joined.await.unwrap().unwrap();
        first.get_or_insert(shared);
    }
    let shared = first.unwrap();
    let fingerprint = Uuid::now_v7().to_string();
    let (one, two) = tokio::join!(made(&shared, &fingerprint), made(&shared, &fingerprint));
    assert_eq!(one, two, "the template was made twice");
    let other = made(&shared, &Uuid::now_v7().to_string()).await;
    assert_ne!(one, other, "another fingerprint has another template");
}

#[tokio::test]
async fn a_test_database_is_dropped_on_success_and_kept_on_panic() {
    let shared = shared_for_tests().await.unwrap();
    let began = Instant::now();
    let database = shared.empty_database().await.unwrap();
    eprintln!("copied in {:?}", began.elapsed());
    let url = database.url().to_owned();
    let still_open = PgConnection::connect(&url).await.unwrap();
    let began = Instant::now();
    drop(database);
    eprintln!("dropped in {:?}", began.elapsed());
    drop(still_open);
    assert!(PgConnection::connect(&url).await.is_err());

    let database = shared.empty_database().await.unwrap();
    let url = database.url().to_owned();
    let panicked = tokio::spawn(async move {
        let _kept = database;
        panic!("as a failing test does");
    });
    assert!(panicked.await.is_err());
    let kept = PgConnection::connect(&url).await.unwrap();
    kept.close().await.unwrap();
}

/// The same race between processes: this test runs its own binary twice at once.
#[tokio::test]
async fn racing_processes_share_one_server() {
    const NAME: &str = "HUB_CLUSTER_RACE";
    if let Ok(fingerprint) = std::env::var(NAME) {
        let shared = shared_for_tests().await.unwrap();
        println!("made={}", made(&shared, &fingerprint).await);
        return;
    }
    let fingerprint = Uuid::now_v7().to_string();
    let children: Vec<_> = (0..2)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "racing_processes_share_one_server",
                    "--nocapture",
                ])
                .env(NAME, &fingerprint)
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let answers: Vec<String> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{text}");
            let at = text.find("made=").unwrap();
            text[at..].lines().next().unwrap().to_owned()
        })
        .collect();
    assert_eq!(answers[0], answers[1], "the template was made twice");
}
