//! A prepared database of a test's own.

use hub_cluster::{TestDatabase, shared_for_tests};
use hub_domain::secret::Secret;
use hub_store::schema;

pub async fn database() -> TestDatabase {
    let cluster = shared_for_tests().await.unwrap();
    let prepare = async |url: String| {
        let pool = hub_store::connect(&Secret::new(url), 2).await?;
        schema::prepare(&pool, 4).await?;
        pool.close().await;
        Ok::<(), hub_store::Error>(())
    };
    cluster.database(&fingerprint(), prepare).await.unwrap()
}

/// Everything the template follows from, so that a changed migration makes a new one.
fn fingerprint() -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut files: Vec<_> = std::fs::read_dir(format!("{root}/migrations/src"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.push(format!("{root}/store/src/schema.rs").into());
    files.sort();
    let texts = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap());
    texts.fold(String::from("4 shards"), |all, text| all + &text)
}
