//! Files of people: the bytes of media, sealed, in an object store: a folder that all processes share,
//! or whatever else the binary brings (a bucket of an S3-compatible service).
//!
//! An object is at `<user>/<object>`. It begins with a line that says which key opens it, what the
//! bytes are and how many there are (`head`); the line and the place are bound to the rest, so that
//! an object that was altered, renamed or moved to somebody else does not open. The key is that of the
//! day whose message the medium belongs to: erasing it, for a person or by retention, makes the object
//! unreadable wherever it was copied. Deleting the objects themselves comes on top.
//!
//! Promises: an object that was put is there after a crash of the machine; putting the same one
//! twice leaves one. A file is in memory as a whole while it is sealed; a part of it is opened without
//! the rest, unless an earlier build has written it.

mod head;
mod sweep;
mod withdrawn;

use std::ops::Range;
use std::path::{Path as Folder, PathBuf};
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use hub_domain::id::{ObjectId, UserId};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt as _};

pub use head::About;
use head::{Format, HEAD_BYTES_MAX};

use crate::error::{Error, Result};
use crate::vault::file::{CHUNK, FileKey};
use crate::vault::{DataKey, Vault};

/// Chunks that are read at once: a megabyte.
const CHUNKS_AT_ONCE: u64 = 16;

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

/// What looking for an object gave.
#[derive(Debug)]
pub enum Sought {
    /// An object that can be opened.
    Object(Box<Object>),
    /// Its key is gone for good.
    Erased,
    /// There is no such object.
    Nothing,
}

/// Where objects are.
#[derive(Clone, Debug)]
enum Place {
    /// In this folder, which is made with the first of them.
    Folder(PathBuf),
    /// Somewhere else.
    Store(Arc<dyn ObjectStore>),
}

/// The objects of an installation. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Objects {
    place: Place,
}

impl Objects {
    /// The objects in this folder, which is made with the first of them.
    pub fn in_folder(folder: &Folder) -> Self {
        Self {
            place: Place::Folder(folder.to_owned()),
        }
    }

    /// The objects in this store. Whoever brings it answers for how it is reached.
    pub fn in_store(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            place: Place::Store(store),
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
        let (own, sealed_under) = key.file_key();
        let about = About {
            content_type: content_type.to_owned(),
            size: bytes.len() as u64,
            sealed_under,
            format: Format::Chunks,
        };
        let (bound, mut content) = (about.bound_to(user, object), about.line().into_bytes());
        content.reserve(about.place_of(&(0..about.chunks())).end as usize);
        let mut chunks = bytes.chunks(CHUNK);
        for number in 0..about.chunks() {
            let chunk = chunks.next().unwrap_or_default();
            own.seal(numbered(number)?, &bound, chunk, &mut content);
        }
        if let Place::Folder(folder) = &self.place {
            tokio::fs::create_dir_all(folder)
                .await
                .map_err(|error| Error::Objects(error.to_string()))?;
        }
        if let Some(store) = self.store()? {
            store.put(&path(user, object), content.into()).await?;
        }
        Ok(about)
    }

    /// What is known of an object without opening it; `None` when there is none.
    pub async fn about(&self, user: UserId, object: ObjectId) -> Result<Option<About>> {
        let head = self.head(user, object).await?;
        Ok(head.map(|(_, about, _)| about))
    }

    /// An object, ready to be opened.
    pub async fn seek(&self, vault: &Vault, user: UserId, object: ObjectId) -> Result<Sought> {
        let Some((store, about, begins)) = self.head(user, object).await? else {
            return Ok(Sought::Nothing);
        };
        let keys = vault.keyring(user, [about.sealed_under.as_str()]).await?;
        let Some(key) = keys.key(&about.sealed_under)? else {
            return Ok(Sought::Erased);
        };
        let key = match about.format {
            Format::Whole => FileKeys::Whole(key.clone()),
            Format::Chunks => FileKeys::Chunks(key.open_file_key(&about.sealed_under)?),
        };
        Ok(Sought::Object(Box::new(Object {
            store,
            path: path(user, object),
            bound: about.bound_to(user, object),
            about,
            begins,
            key,
        })))
    }

    /// An object, opened.
    pub async fn get(&self, vault: &Vault, user: UserId, object: ObjectId) -> Result<Found> {
        Ok(match self.seek(vault, user, object).await? {
            Sought::Object(object) => {
                let about = object.about.clone();
                let parts: Vec<_> = object.bytes(0..about.size).try_collect().await?;
                Found::File(about, parts.concat())
            }
            Sought::Erased => Found::Erased,
            Sought::Nothing => Found::Nothing,
        })
    }

    /// The first line of an object, where it is, and where what follows it begins.
    async fn head(
        &self,
        user: UserId,
        object: ObjectId,
    ) -> Result<Option<(Arc<dyn ObjectStore>, About, u64)>> {
        let Some(store) = self.store()? else {
            return Ok(None);
        };
        let head = GetOptions::new().with_range(Some(0..HEAD_BYTES_MAX));
        let head = match store.get_opts(&path(user, object), head).await {
            Ok(found) => found.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (about, begins) = About::read(&head)?;
        Ok(Some((store, about, begins as u64)))
    }

    /// The store; `None` while there is no object in it.
    fn store(&self) -> Result<Option<Arc<dyn ObjectStore>>> {
        Ok(match &self.place {
            Place::Store(store) => Some(Arc::clone(store)),
            Place::Folder(folder) if folder.exists() => {
                let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
                Some(Arc::new(store))
            }
            Place::Folder(_) => None,
        })
    }
}

fn path(user: UserId, object: ObjectId) -> Path {
    Path::from_iter([user.to_string(), object.to_string()])
}

/// The number of a chunk as the cipher counts. Files end long before numbers do.
fn numbered(chunk: u64) -> Result<u32> {
    u32::try_from(chunk).map_err(|_| Error::Sealed("a file has too many chunks"))
}

/// What opens a file.
#[derive(Debug)]
enum FileKeys {
    Whole(DataKey),
    Chunks(FileKey),
}

/// An object that can be opened.
#[derive(Debug)]
pub struct Object {
    store: Arc<dyn ObjectStore>,
    path: Path,
    about: About,
    /// Behind the first line.
    begins: u64,
    bound: Vec<u8>,
    key: FileKeys,
}

impl Object {
    /// What it is.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// These bytes of it, or as many of them as there are, in pieces of a megabyte. Nothing is read
    /// before it is asked for.
    pub fn bytes(self, range: Range<u64>) -> BoxStream<'static, Result<Vec<u8>>> {
        let range = range.start..range.end.min(self.about.size);
        let next = range.start;
        let parts = futures::stream::try_unfold((self, next), move |(object, next)| async move {
            if next >= range.end {
                return Ok(None);
            }
            let part = object.part(next, range.end).await?;
            let next = next + part.len() as u64;
            Ok(Some((part, (object, next))))
        });
        parts.boxed()
    }

    /// Bytes from here on, at least one and none at or after `end`.
    async fn part(&self, start: u64, end: u64) -> Result<Vec<u8>> {
        let key = match &self.key {
            FileKeys::Whole(key) => {
                let whole = self.store.get(&self.path).await?.bytes().await?;
                let sealed = whole.get(self.begins as usize..).unwrap_or_default();
                let opened = key.open_file(&self.bound, sealed.to_vec())?;
                let part = opened.get(start as usize..end as usize);
                return part.map(<[u8]>::to_vec).ok_or(TOO_SHORT);
            }
            FileKeys::Chunks(key) => key,
        };
        let size = CHUNK as u64;
        let first = start / size;
        let chunks = first..end.div_ceil(size).min(first + CHUNKS_AT_ONCE);
        let place = self.about.place_of(&chunks);
        let place = self.begins + place.start..self.begins + place.end;
        let sealed = self.store.get_range(&self.path, place).await?;
        let mut opened = Vec::with_capacity(sealed.len());
        let mut rest = &sealed[..];
        for number in chunks.clone() {
            let place = self.about.place_of(&(number..number + 1));
            let length = (place.end - place.start) as usize;
            let (chunk, after) = rest.split_at_checked(length).ok_or(TOO_SHORT)?;
            opened.extend(key.open(numbered(number)?, &self.bound, chunk)?);
            rest = after;
        }
        let begin = (start - first * size) as usize;
        let length = ((end - start) as usize).min(opened.len().saturating_sub(begin));
        if length == 0 {
            return Err(TOO_SHORT);
        }
        Ok(opened[begin..begin + length].to_vec())
    }
}

const TOO_SHORT: Error = Error::Sealed("an object ends too early");
