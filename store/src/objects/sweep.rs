//! Deleting objects. Nobody can open them any more, or nobody is to: what is left is to free the room.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _};
use hub_domain::id::{ObjectId, UserId};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore};

use super::{Objects, path};
use crate::error::Result;
use crate::vault::Vault;

impl Objects {
    /// Deletes everything of a person. Returns how many objects there were.
    pub async fn erase(&self, user: UserId) -> Result<u64> {
        match self.store()? {
            Some(store) => erase(&*store, user).await,
            None => Ok(0),
        }
    }

    /// Deletes these objects of a person, those of them that there are.
    pub async fn remove_all(&self, user: UserId, objects: &[ObjectId]) -> Result<()> {
        let Some(store) = self.store()? else {
            return Ok(());
        };
        let paths: Vec<_> = objects.iter().map(|it| Ok(path(user, *it))).collect();
        let mut removed = store.delete_stream(futures::stream::iter(paths).boxed());
        while let Some(removed) = removed.next().await {
            match removed {
                Ok(_) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Deletes what nobody can open any more: everything of people who were erased, and what was put
    /// before the first day that is kept. Returns how many objects there were.
    ///
    /// A file is put on the day of its message or later, so what was put before that day is of a day
    /// whose key is erased; a day more is left for clocks that differ. Folders that belong to nobody
    /// this database knows are left alone: they may be somebody else's.
    pub async fn sweep(&self, vault: &Vault, kept_from: Option<NaiveDate>) -> Result<u64> {
        let Some(store) = self.store()? else {
            return Ok(0);
        };
        let before = kept_from
            .and_then(|first| first.checked_sub_days(Days::new(1)))
            .map(|day| day.and_time(NaiveTime::MIN).and_utc());
        let mut deleted = 0;
        let people: Vec<UserId> = store
            .list_with_delimiter(None)
            .await?
            .common_prefixes
            .iter()
            .filter_map(|it| it.filename()?.parse().ok().map(UserId))
            .collect();
        for user in people {
            if vault.is_erased_now(user).await? {
                deleted += erase(&*store, user).await?;
            } else if let Some(before) = before {
                deleted += age(&*store, user, before).await?;
            }
        }
        Ok(deleted)
    }
}

async fn erase(store: &dyn ObjectStore, user: UserId) -> Result<u64> {
    age(store, user, DateTime::<Utc>::MAX_UTC).await
}

/// Deletes what was put before this moment.
async fn age(store: &dyn ObjectStore, user: UserId, before: DateTime<Utc>) -> Result<u64> {
    let folder = Path::from(user.to_string());
    let old = store
        .list(Some(&folder))
        .try_filter(move |it| futures::future::ready(it.last_modified < before))
        .map_ok(|it| it.location)
        .boxed();
    let deleted: Vec<_> = store.delete_stream(old).try_collect().await?;
    Ok(deleted.len() as u64)
}
