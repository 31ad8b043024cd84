//! Files of people: the bytes of media, sealed, in an object store.
//!
//! An object is at `<user>/<object>`. It begins with a line that says which key opens it, what the
//! bytes are and how many there are; the line and the place are bound to the rest, so that an object
//! that was altered, renamed or moved to somebody else does not open. The key is that of the day
//! whose message the medium belongs to: erasing it, for a person or by retention, makes the object
//! unreadable wherever it was copied. Erasing the objects themselves comes on top.
//!
//! Promises: an object that was put is there after a crash of the machine; putting the same one
//! twice leaves one. A file is in memory as a whole while it is sealed or opened.

use std::path::{Path as Folder, PathBuf};

use futures::{StreamExt as _, TryStreamExt as _};
use hub_domain::id::{ObjectId, UserId};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt as _};

use crate::error::{Error, Result};
use crate::vault::{DataKey, Vault};

/// How every object begins.
const MAGIC: &str = "hub-media-1";

/// The first line is shorter than this.
const HEAD_BYTES_MAX: u64 = 256;

/// What is known of an object without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// What the bytes are.
    pub content_type: String,
    /// How many there are.
    pub size: u64,
    /// What a text begins with that the same key opens.
    envelope: String,
}

/// What asking for an object gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The bytes and what they are.
    File(About, Vec<u8>),
    /// Its key is gone for good.
    Erased,
    /// There is no such object.
    Nothing,
}

/// The objects of an installation, in a folder that all processes share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Objects {
    folder: PathBuf,
}

impl Objects {
    /// The objects in this folder, which is made with the first of them.
    pub fn in_folder(folder: &Folder) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Seals a file and keeps it.
    pub async fn put(
        &self,
        user: UserId,
        object: ObjectId,
        key: &DataKey,
        content_type: &str,
        bytes: Vec<u8>,
    ) -> Result<About> {
        let about = About {
            content_type: content_type.to_owned(),
            size: bytes.len() as u64,
            envelope: key.envelope(),
        };
        let head = about.line();
        let sealed = key.seal_file(&place(user, object, &head), bytes);
        tokio::fs::create_dir_all(&self.folder)
            .await
            .map_err(|error| Error::Objects(error.to_string()))?;
        let content = [head.into_bytes(), sealed].concat();
        self.store()?
            .put(&path(user, object), content.into())
            .await?;
        Ok(about)
    }

    /// What is known of an object without opening it; `None` when there is none.
    pub async fn about(&self, user: UserId, object: ObjectId) -> Result<Option<About>> {
        let head = GetOptions::new().with_range(Some(0..HEAD_BYTES_MAX));
        let Some(head) = self.read(user, object, head).await? else {
            return Ok(None);
        };
        Ok(Some(About::read(&head)?.0))
    }

    /// An object, opened.
    pub async fn get(&self, vault: &Vault, user: UserId, object: ObjectId) -> Result<Found> {
        let whole = self.read(user, object, GetOptions::new()).await?;
        let Some(content) = whole else {
            return Ok(Found::Nothing);
        };
        let (about, sealed) = About::read(&content)?;
        let keys = vault.keyring(user, [about.envelope.as_str()]).await?;
        let Some(key) = keys.key(&about.envelope)? else {
            return Ok(Found::Erased);
        };
        let place = place(user, object, &about.line());
        let bytes = key.open_file(&place, sealed.to_vec())?;
        Ok(Found::File(about, bytes))
    }

    /// Deletes an object. One that is not there is no error.
    pub async fn remove(&self, user: UserId, object: ObjectId) -> Result<()> {
        if !self.folder.exists() {
            return Ok(());
        }
        match self.store()?.delete(&path(user, object)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes everything of a person. Returns how many objects there were.
    pub async fn erase(&self, user: UserId) -> Result<u64> {
        if !self.folder.exists() {
            return Ok(0);
        }
        let store = self.store()?;
        let folder = Path::from(user.to_string());
        let found = store.list(Some(&folder)).map_ok(|it| it.location).boxed();
        let erased: Vec<_> = store.delete_stream(found).try_collect().await?;
        Ok(erased.len() as u64)
    }

    async fn read(
        &self,
        user: UserId,
        object: ObjectId,
        options: GetOptions,
    ) -> Result<Option<Vec<u8>>> {
        if !self.folder.exists() {
            return Ok(None);
        }
        match self.store()?.get_opts(&path(user, object), options).await {
            Ok(found) => Ok(Some(found.bytes().await?.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn store(&self) -> Result<LocalFileSystem> {
        Ok(LocalFileSystem::new_with_prefix(&self.folder)?.with_fsync(true))
    }
}

fn path(user: UserId, object: ObjectId) -> Path {
    Path::from_iter([user.to_string(), object.to_string()])
}

/// What an object's content is bound to.
fn place(user: UserId, object: ObjectId, head: &str) -> Vec<u8> {
    format!("{user}/{object}\n{head}").into_bytes()
}

impl About {
    fn line(&self) -> String {
        let Self {
            content_type,
            size,
            envelope,
        } = self;
        format!("{MAGIC} {envelope} {content_type} {size}\n")
    }

    /// The first line, and what follows it.
    fn read(content: &[u8]) -> Result<(Self, &[u8])> {
        const MALFORMED: Error = Error::Sealed("an object does not begin as one");
        let end = content.iter().position(|byte| *byte == b'\n');
        let (line, rest) = content.split_at(end.ok_or(MALFORMED)?);
        let line = std::str::from_utf8(line).map_err(|_| MALFORMED)?;
        let words: Vec<&str> = line.split(' ').collect();
        let [MAGIC, envelope, content_type, size] = words[..] else {
            return Err(MALFORMED);
        };
        let about = Self {
            content_type: content_type.to_owned(),
            size: size.parse().map_err(|_| MALFORMED)?,
            envelope: envelope.to_owned(),
        };
        Ok((about, &rest[1..]))
    }
}
