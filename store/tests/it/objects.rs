//! Objects: opened in parts, bound to their place and key, deleted when nobody can open them.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chrono::Utc;
use futures::TryStreamExt as _;
use hub_domain::id::{ObjectId, UserId};
use hub_domain::retention::kept_from;
use hub_store::Store;
use hub_store::objects::{Found, Objects, Sought};
use hub_store::vault::file::{CHUNK, TAG};
use hub_store::vault::{DataKey, Sealer};
use uuid::Uuid;

use crate::facts::user;
use crate::world::World;

const DAY: Duration = Duration::from_secs(86_400);

/// A folder of one's own, gone with the value.
struct Shelf(PathBuf);

impl Shelf {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("hub-objects-{}", Uuid::new_v4())))
    }

    fn objects(&self) -> Objects {
        Objects::in_folder(&self.0)
    }

    fn file(&self, user: UserId, object: ObjectId) -> PathBuf {
        self.0.join(user.to_string()).join(object.to_string())
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn object(number: u128) -> ObjectId {
    ObjectId(Uuid::from_u128(number))
}

async fn key_of(store: &Store, user: UserId, age: i64) -> DataKey {
    let at = Utc::now() - chrono::Duration::days(age);
    match store.vault().content(user, at, None).await.unwrap() {
        Sealer::Under(key) => key,
        Sealer::Nothing => panic!("the day is kept"),
    }
}

/// Bytes of which no two places look the same.
fn bytes(size: usize) -> Vec<u8> {
    (0..size)
        .map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8)
        .collect()
}

async fn part(
    objects: &Objects,
    store: &Store,
    place: (UserId, ObjectId),
    range: std::ops::Range<u64>,
) -> hub_store::Result<Vec<u8>> {
    match objects.seek(store.vault(), place.0, place.1).await? {
        Sought::Object(object) => {
            let parts: Vec<Vec<u8>> = object.bytes(range).try_collect().await?;
            assert!(parts.iter().all(|it| it.len() <= 1024 * 1024));
            Ok(parts.concat())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn any_part_of_an_object_is_opened_by_itself() {
    let world = World::new().await;
    let (store, shelf, owner) = (&world.store, Shelf::new(), user(1));
    let objects = shelf.objects();
    let key = key_of(store, owner, 0).await;
    // More than is read at once, and every edge of a chunk.
    for (number, size) in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 17 * CHUNK + 5]
        .into_iter()
        .enumerate()
    {
        let (place, whole) = ((owner, object(number as u128)), bytes(size));
        let put = objects.put(owner, place.1, &key, "video/mp4", whole.clone());
        let about = put.await.unwrap();
        assert_eq!(about.size, size as u64);
        assert_eq!(
            objects.about(owner, place.1).await.unwrap(),
            Some(about.clone())
        );
        let found = objects.get(store.vault(), owner, place.1).await.unwrap();
        assert_eq!(found, Found::File(about, whole.clone()));
        let edges = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 16 * CHUNK, size];
        for start in edges.into_iter().filter(|it| *it <= size) {
            for end in edges.into_iter().filter(|it| (start..=size).contains(it)) {
                let opened = part(&objects, store, place, start as u64..end as u64).await;
                assert!(
                    opened.unwrap() == whole[start..end],
                    "{size}: {start}..{end}"
                );
            }
        }
        // There is no more of it than there is.
        let opened = part(&objects, store, place, 0..u64::MAX).await;
        assert_eq!(opened.unwrap().len(), size);
    }
}

#[tokio::test]
async fn an_object_that_was_tampered_with_does_not_open() {
    let world = World::new().await;
    let (store, shelf, owner) = (&world.store, Shelf::new(), user(1));
    let (objects, whole) = (shelf.objects(), bytes(3 * CHUNK));
    let key = key_of(store, owner, 0).await;
    let place = (owner, object(1));
    let put = objects.put(owner, place.1, &key, "image/png", whole.clone());
    put.await.unwrap();
    let file = shelf.file(owner, place.1);
    let kept = std::fs::read(&file).unwrap();
    let head = kept.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    assert_eq!(kept.len(), head + 3 * (CHUNK + TAG));
    let sealed = CHUNK + TAG;
    let swapped = [
        &kept[..head],
        &kept[head + sealed..head + 2 * sealed],
        &kept[head..head + sealed],
        &kept[head + 2 * sealed..],
    ]
    .concat();
    let mut flipped = kept.clone();
    flipped[head + sealed + 7] ^= 1;
    let line = String::from_utf8(kept[..head].to_vec()).unwrap();
    let shorter = line.replace(&(3 * CHUNK).to_string(), &(2 * CHUNK).to_string());
    let shorter = [shorter.as_bytes(), &kept[head..head + 2 * sealed]].concat();
    let another_type = line.replace("image/png", "text/html");
    let another_type = [another_type.as_bytes(), &kept[head..]].concat();
    for (how, content) in [
        ("swapped", swapped),
        ("flipped", flipped.clone()),
        ("cut", kept[..kept.len() - sealed].to_vec()),
        ("said to be shorter", shorter),
        ("said to be something else", another_type),
    ] {
        std::fs::write(&file, content).unwrap();
        let opened = objects.get(store.vault(), owner, place.1).await;
        assert!(opened.is_err(), "{how}: {opened:?}");
    }
    // A part that nobody touched is still good.
    std::fs::write(&file, flipped).unwrap();
    let first = part(&objects, store, place, 0..CHUNK as u64).await;
    assert_eq!(first.unwrap(), whole[..CHUNK]);
    assert!(
        part(&objects, store, place, 0..CHUNK as u64 + 1)
            .await
            .is_err()
    );
    // In another place it is nobody's.
    std::fs::write(&file, &kept).unwrap();
    std::fs::copy(&file, shelf.file(owner, object(2))).unwrap();
    assert!(objects.get(store.vault(), owner, object(2)).await.is_err());
}

/// Writes an object as builds before chunks did.
fn put_whole(shelf: &Shelf, place: (UserId, ObjectId), key: &DataKey, content: &[u8]) {
    let (owner, object) = place;
    let envelope = key.envelope();
    let line = format!("hub-media-1 {envelope} image/png {}\n", content.len());
    let bound = format!("{owner}/{object}\n{line}");
    let sealed = key.seal_file(bound.as_bytes(), content.to_vec());
    let file = shelf.file(owner, object);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, [line.as_bytes(), &sealed].concat()).unwrap();
}

#[tokio::test]
async fn objects_of_earlier_builds_stay_readable() {
    let world = World::new().await;
    let (store, shelf, owner) = (&world.store, Shelf::new(), user(1));
    let (objects, place, whole) = (shelf.objects(), (owner, object(1)), bytes(2 * CHUNK));
    put_whole(&shelf, place, &key_of(store, owner, 0).await, &whole);
    let found = objects.get(store.vault(), owner, place.1).await.unwrap();
    assert!(matches!(found, Found::File(about, bytes)
        if about.content_type == "image/png" && bytes == whole));
    let opened = part(&objects, store, place, 5..70_000).await.unwrap();
    assert_eq!(opened, whole[5..70_000]);
}

/// Makes an object look as if it was put so many days ago.
fn age(file: &Path, days: u32) {
    let file = std::fs::File::options().write(true).open(file).unwrap();
    file.set_modified(SystemTime::now() - DAY * days).unwrap();
}

#[tokio::test]
async fn what_nobody_can_open_is_deleted_and_nothing_else() {
    let world = World::new().await;
    let (store, shelf) = (&world.store, Shelf::new());
    let (objects, vault) = (shelf.objects(), store.vault());
    assert_eq!(objects.sweep(vault, None).await.unwrap(), 0);
    let (stays, goes) = (user(1), user(2));
    let ages = [0, 29, 32];
    for owner in [stays, goes] {
        for (number, days) in (0..).zip(ages) {
            let key = key_of(store, owner, i64::from(days)).await;
            let put = objects.put(owner, object(number), &key, "image/png", bytes(10));
            put.await.unwrap();
            age(&shelf.file(owner, object(number)), days);
        }
    }
    // Of somebody this database does not know; not the hub's at all.
    let stranger = shelf.file(UserId(Uuid::new_v4()), object(1));
    std::fs::create_dir_all(stranger.parent().unwrap()).unwrap();
    std::fs::write(&stranger, b"theirs").unwrap();
    age(&stranger, 5);
    std::fs::write(shelf.0.join("README"), b"ours").unwrap();

    // Nobody was erased, and everything is kept for ever.
    assert_eq!(objects.sweep(vault, None).await.unwrap(), 0);
    vault.erase_user(goes).await.unwrap();
    assert_eq!(objects.sweep(vault, None).await.unwrap(), 3);
    assert_eq!(objects.sweep(vault, None).await.unwrap(), 0);

    let first = kept_from(Utc::now(), 30);
    vault.erase_days_before(first.unwrap()).await.unwrap();
    let left = async |number| objects.get(vault, stays, object(number)).await.unwrap();
    assert_eq!(left(2).await, Found::Erased);
    assert_eq!(objects.sweep(vault, first).await.unwrap(), 1);
    assert_eq!(left(2).await, Found::Nothing);
    for number in [0, 1] {
        assert!(matches!(left(number).await, Found::File(..)), "{number}");
    }
    assert!(stranger.exists() && shelf.0.join("README").exists());

    // Those that are named, whether they are there or not.
    let named = [object(0), object(7), object(1)];
    objects.remove_all(stays, &named).await.unwrap();
    assert_eq!(left(0).await, Found::Nothing);
    assert_eq!(left(1).await, Found::Nothing);
}
