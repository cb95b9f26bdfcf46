//! One stream for several destinations: each block goes to all of them, the slowest sets the
//! pace, and one that fails is left behind without the others.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::task::JoinSet;

use crate::backup::{Backup, Key};
use crate::error::{Error, Kind};
use crate::storage::{ByteStream, PutMode};
use crate::vault::bridge::{self, BlockSender};
use crate::vault::places::Place;

/// What became of a stream.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Who has it.
    pub(super) kept: Vec<(Place, Backup)>,
    /// Who has it not, and why.
    pub(super) failed: Vec<(Place, Error)>,
    /// The stream's own error; nobody has it then.
    pub(super) broken: Option<Error>,
}

/// Stores the stream at every place at once. Each may hold back a few blocks, which all share.
pub(super) async fn send(body: ByteStream, places: &[Place], key: &Key) -> Sent {
    let mut senders = Vec::new();
    let mut puts = JoinSet::new();
    for (index, place) in places.iter().enumerate() {
        let (sender, stream) = bridge::channel();
        senders.push(sender);
        let (storage, key) = (Arc::clone(&place.storage), key.clone());
        puts.spawn(async move { (index, storage.put(&key, stream, PutMode::Create).await) });
    }
    let broken = feed(body, senders).await;
    let mut results: Vec<Option<crate::error::Result<Backup>>> =
        places.iter().map(|_| None).collect();
    while let Some(done) = puts.join_next().await {
        if let Ok((index, result)) = done {
            results[index] = Some(result);
        }
    }
    let mut sent = Sent { broken, ..Sent::default() };
    for (place, result) in places.iter().zip(results) {
        match result {
            Some(Ok(backup)) => sent.kept.push((place.clone(), backup)),
            Some(Err(error)) => sent.failed.push((place.clone(), error)),
            None => {
                let stopped = Error::internal("the task of a destination stopped");
                sent.failed.push((place.clone(), stopped));
            }
        }
    }
    sent.settle(places, key).await
}

impl Sent {
    /// A name that is taken at one place is taken: what the others have goes again.
    async fn settle(mut self, places: &[Place], key: &Key) -> Self {
        let taken = self.failed.iter().position(|(_, error)| error.kind() == &Kind::Exists);
        let Some(index) = taken.filter(|_| places.len() > 1) else { return self };
        for (place, _) in self.kept.drain(..) {
            if let Err(error) = place.storage.delete(key).await {
                let name = place.name.as_ref();
                tracing::error!(name, %key, error = error.full(), "a backup stays there");
            }
        }
        self.broken = Some(self.failed.swap_remove(index).1);
        self
    }
}

/// Passes the stream on; its own error, if it ends with one. A sender that is dropped without
/// a clean end is an error to its destination.
async fn feed(mut body: ByteStream, mut senders: Vec<BlockSender>) -> Option<Error> {
    loop {
        match body.next().await {
            Some(Ok(block)) => {
                let taken = join_all(senders.iter().map(|sender| sender.send(block.clone()))).await;
                let mut taken = taken.into_iter();
                senders.retain(|_| taken.next().unwrap_or(false));
                if senders.is_empty() {
                    return None;
                }
            }
            Some(Err(error)) => return Some(error),
            None => {
                senders.into_iter().for_each(BlockSender::finish);
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;
    use tempfile::TempDir;

    use super::*;
    use crate::storage::{LocalStorage, UnavailableStorage};

    fn folder(home: &TempDir, name: &str) -> Place {
        Place::new(name, Arc::new(LocalStorage::new(home.path().join(name))))
    }

    fn silent() -> Place {
        Place::new("silent", Arc::new(UnavailableStorage::new("down")))
    }

    fn body(blocks: usize, end: Option<Error>) -> ByteStream {
        let blocks: Vec<_> = (0..blocks).map(|n| Ok(Bytes::from(vec![n as u8; 100_000]))).collect();
        stream::iter(blocks.into_iter().chain(end.map(Err))).boxed()
    }

    #[tokio::test]
    async fn one_that_fails_does_not_lose_the_others() {
        let home = tempfile::tempdir().expect("a folder");
        let places = [folder(&home, "a"), silent(), folder(&home, "b")];
        let key = Key::named("a.zip").expect("a key");
        let sent = send(body(40, None), &places, &key).await;
        assert!(sent.broken.is_none());
        let kept: Vec<&str> = sent.kept.iter().map(|(place, _)| place.name.as_ref()).collect();
        assert_eq!(kept, ["a", "b"]);
        assert!(sent.kept.iter().all(|(_, backup)| backup.size_bytes == 4_000_000));
        assert_eq!(sent.failed.len(), 1);
        let read = |name: &str| std::fs::read(home.path().join(name).join("a.zip")).expect("read");
        assert!(read("a") == read("b"), "byte for byte");
    }

    #[tokio::test]
    async fn a_broken_stream_is_kept_by_nobody() {
        let home = tempfile::tempdir().expect("a folder");
        let places = [folder(&home, "a"), folder(&home, "b")];
        let key = Key::named("a.zip").expect("a key");
        let sent = send(body(20, Some(Error::internal("torn"))), &places, &key).await;
        assert!(sent.kept.is_empty());
        assert_eq!(sent.broken.expect("told").message(), "torn");
        assert!(places[0].storage.list().await.expect("listed").is_empty());
    }

    #[tokio::test]
    async fn a_name_that_is_taken_at_one_place_is_taken() {
        let home = tempfile::tempdir().expect("a folder");
        let places = [folder(&home, "a"), folder(&home, "b")];
        let key = Key::named("a.zip").expect("a key");
        places[1].storage.put(&key, body(1, None), PutMode::Create).await.expect("stored");
        let sent = send(body(20, None), &places, &key).await;
        assert_eq!(sent.broken.expect("told").kind(), &Kind::Exists);
        assert!(places[0].storage.list().await.expect("listed").is_empty());
        assert_eq!(places[1].storage.head(&key).await.expect("there").size_bytes, 100_000);
    }

    #[tokio::test]
    async fn nobody_left_ends_the_pass() {
        let key = Key::named("a.zip").expect("a key");
        let endless = stream::repeat_with(|| Ok(Bytes::from_static(b"x"))).boxed();
        let sent = send(endless, &[silent(), silent()], &key).await;
        assert!(sent.kept.is_empty() && sent.broken.is_none());
        assert_eq!(sent.failed.len(), 2);
    }
}
