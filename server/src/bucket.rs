//! A disk whose parts are objects in a bucket, such as S3; everything else stays local.
//!
//! A part is written to a local file first. Renaming it to its name uploads it, and that is when it is durable. The local
//! file stays as a cache until all cached files exceed a limit; what is not cached is read from the bucket by ranges,
//! and the engine checks every block against the manifest either way.
//!
//! Two databases under one prefix would remove each other's parts. So a prefix has an owner: an object `juno-owner` that holds the
//! same random id as the file `BUCKET` in the data directory, beside the URL.
//!
//! **Invariant:** knows files and objects only, never what is in them. The log and the manifest never leave the local disk.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use juno_sql::engine::system::{Disk, DiskRead, DiskWrite, RealDisk, System};
use object_store::buffered::BufWriter;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tokio::io::AsyncWriteExt;
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use url::Url;

use self::cache::Cache;
use self::object::Object;

mod cache;
mod object;

/// The directory whose files are objects, in the data directory.
pub(crate) const PARTS_DIR: &str = "parts";
/// The file of a data directory that names its bucket.
const MARKER: &str = "BUCKET";
/// The object that names the database a prefix belongs to.
const OWNER: &str = "juno-owner";
/// Bytes that an upload reads and sends at a time.
const UPLOAD_CHUNK_BYTES: usize = 8 << 20;
/// Threads that talk to the bucket.
const THREADS: usize = 2;

/// Where a database keeps its parts.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// The bucket and the prefix in it, as `s3://bucket/prefix`.
    pub url: Url,
    /// What parts kept locally may take.
    pub cache_bytes_max: u64,
}

/// The disk. Dropping it lets running transfers go.
pub(crate) struct BucketDisk {
    local: RealDisk,
    parts: PathBuf,
    remote: Arc<Remote>,
    cache: Arc<Cache>,
}

/// The bucket, as blocking calls.
struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    /// None only while it is dropped.
    runtime: Option<Runtime>,
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Plain dropping would panic where the last holder is an asynchronous task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Remote {
    fn new(bucket: &Bucket) -> io::Result<Self> {
        // Credentials, region and endpoint come by the names that Amazon's own tools use.
        let options = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("AWS_"))?;
            Some((name.to_ascii_lowercase(), value.into_string().ok()?))
        });
        let (store, prefix) = object_store::parse_url_opts(&bucket.url, options).map_err(io::Error::from)?;
        let runtime =
            Builder::new_multi_thread().worker_threads(THREADS).thread_name("juno-bucket").enable_all().build()?;
        Ok(Self { store: Arc::from(store), prefix, runtime: Some(runtime) })
    }

    /// Runs a request and waits for it, on whatever thread the caller is.
    fn wait<T: Send + 'static>(
        &self,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        let (reply, answer) = sync_channel(1);
        let runtime = self.runtime.as_ref().expect("it is there until it is dropped");
        runtime.spawn(async move {
            let _ = reply.send(request.await);
        });
        let received = match Handle::try_current().map(|caller| caller.runtime_flavor()) {
            // The thread belongs to others too: they must go on meanwhile.
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(|| answer.recv()),
            _ => answer.recv(),
        };
        received.map_err(|_| io::Error::other("the connection to the bucket was closed"))?.map_err(io::Error::from)
    }

    fn key(&self, name: &str) -> Key {
        self.prefix.clone().join(name)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        let (store, key) = (Arc::clone(&self.store), self.key(name));
        self.wait(async move { Ok(store.head(&key).await?.size) })
    }

    fn read(&self, name: &str, range: Range<u64>) -> io::Result<Bytes> {
        let (store, key) = (Arc::clone(&self.store), self.key(name));
        self.wait(async move { store.get_range(&key, range).await })
    }

    fn read_all(&self, name: &str, ranges: Vec<Range<u64>>) -> io::Result<Vec<Bytes>> {
        let (store, key) = (Arc::clone(&self.store), self.key(name));
        self.wait(async move { store.get_ranges(&key, &ranges).await })
    }

    /// Uploads a file; the object appears whole or not at all.
    fn upload(&self, name: &str, file: Arc<dyn DiskRead>) -> io::Result<()> {
        let mut writer = BufWriter::new(Arc::clone(&self.store), self.key(name));
        self.wait(async move {
            let sent = send(&mut writer, file.as_ref()).await;
            match sent {
                Ok(()) => writer.shutdown().await.map_err(unreadable),
                Err(error) => {
                    // Parts of an unfinished upload cost money until they are removed; the error matters more.
                    let _ = writer.abort().await;
                    Err(error)
                }
            }
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let (store, key) = (Arc::clone(&self.store), self.key(name));
        match self.wait(async move { store.delete(&key).await }) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn list(&self) -> io::Result<Vec<PathBuf>> {
        let (store, prefix) = (Arc::clone(&self.store), self.prefix.clone());
        let found = self.wait(async move {
            let listed = store.list_with_delimiter(Some(&prefix)).await?;
            Ok(listed.objects)
        })?;
        let names = found.iter().filter_map(|object| object.location.filename());
        Ok(names.filter(|name| *name != OWNER).map(PathBuf::from).collect())
    }

    /// The id in the owner's object; none where the prefix is nobody's.
    fn owner(&self) -> io::Result<Option<String>> {
        let (store, key) = (Arc::clone(&self.store), self.key(OWNER));
        match self.wait(async move { store.get(&key).await?.bytes().await }) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes an id into the owner's object unless there is one; the id that stands there.
    fn own(&self, id: &str) -> io::Result<String> {
        let (store, key, id) = (Arc::clone(&self.store), self.key(OWNER), id.to_owned());
        let bytes = self.wait(async move {
            let payload = PutPayload::from(id.clone().into_bytes());
            match store.put_opts(&key, payload, PutMode::Create.into()).await {
                Ok(_) => Ok(Bytes::from(id)),
                Err(object_store::Error::AlreadyExists { .. }) => store.get(&key).await?.bytes().await,
                Err(error) => Err(error),
            }
        })?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }
}

async fn send(writer: &mut BufWriter, file: &dyn DiskRead) -> object_store::Result<()> {
    let size = file.size().map_err(unreadable)?;
    let mut offset = 0;
    while offset < size {
        let len = usize::try_from(size - offset).map_or(UPLOAD_CHUNK_BYTES, |left| left.min(UPLOAD_CHUNK_BYTES));
        let mut bytes = vec![0; len];
        file.read_at(&mut bytes, offset).map_err(unreadable)?;
        writer.put(bytes.into()).await?;
        offset += len as u64;
    }
    Ok(())
}

fn unreadable(error: io::Error) -> object_store::Error {
    object_store::Error::Generic { store: "local", source: Box::new(error) }
}

impl BucketDisk {
    /// The disk for a data directory. Takes the prefix into possession, and uploads the parts that a database had before it
    /// was given a bucket.
    ///
    /// # Errors
    /// Where the bucket does not answer, belongs to another database, or the directory to another bucket.
    pub(crate) fn open(data: &Path, bucket: &Bucket) -> io::Result<Self> {
        let (local, remote) = (RealDisk, Remote::new(bucket)?);
        let parts = data.join(PARTS_DIR);
        local.create_dir(&parts)?;
        let known = marker(data)?;
        if let Some((_, url)) = &known {
            same_bucket(url, bucket)?;
        }
        let id = known.as_ref().map_or_else(|| System::real().uuid_v7().to_string(), |(id, _)| id.clone());
        if remote.own(&id)? != id {
            return Err(another_database(bucket));
        }
        let names = local.list(&parts)?;
        if known.is_none() {
            for name in names.iter().filter(|name| is_part(name)) {
                remote.upload(&text(name)?, local.open(&parts.join(name))?)?;
            }
            write_marker(&local, data, &id, bucket.url.as_str())?;
        }
        let cache = Cache::new(parts.clone(), bucket.cache_bytes_max);
        for name in names.into_iter().filter(|name| is_part(name)) {
            let size = local.open(&parts.join(&name))?.size()?;
            cache.add(name, size);
        }
        Ok(Self { local, parts, remote: Arc::new(remote), cache: Arc::new(cache) })
    }

    /// The disk for a look at a database that has its parts in this bucket: all of them are read from there, not from local copies,
    /// and nothing is changed.
    ///
    /// # Errors
    /// Where the bucket does not answer or belongs to another database, and where the database has its parts elsewhere.
    pub(crate) fn look(data: &Path, bucket: &Bucket) -> io::Result<Self> {
        let Some((id, url)) = marker(data)? else {
            let text = format!("the parts of this database are in its data directory, not in {}", bucket.url);
            return Err(io::Error::other(text));
        };
        same_bucket(&url, bucket)?;
        let remote = Remote::new(bucket)?;
        if remote.owner()? != Some(id) {
            return Err(another_database(bucket));
        }
        let parts = data.join(PARTS_DIR);
        let cache = Cache::new(parts.clone(), bucket.cache_bytes_max);
        Ok(Self { local: RealDisk, parts, remote: Arc::new(remote), cache: Arc::new(cache) })
    }

    /// The name of the object behind a path; none for what stays local.
    fn object(&self, path: &Path) -> io::Result<Option<String>> {
        if path.parent() != Some(&self.parts) || !is_part(path) {
            return Ok(None);
        }
        path.file_name().map(|name| text(Path::new(name))).transpose()
    }
}

fn same_bucket(url: &str, bucket: &Bucket) -> io::Result<()> {
    if url == bucket.url.as_str() {
        return Ok(());
    }
    Err(io::Error::other(format!("the parts of this database are in {url}, not in {}", bucket.url)))
}

fn another_database(bucket: &Bucket) -> io::Error {
    io::Error::other(format!("{} belongs to another database; choose another prefix", bucket.url))
}

/// Refuses a data directory whose parts are in a bucket that was not named.
///
/// # Errors
/// The message says which bucket.
pub(crate) fn refuse_without(data: &Path) -> io::Result<()> {
    match marker(data)? {
        Some((_, url)) => Err(io::Error::other(format!(
            "the parts of this database are in {url}: name it with --object-store or JUNO_OBJECT_STORE"
        ))),
        None => Ok(()),
    }
}

/// The id and the URL in a data directory's marker.
fn marker(data: &Path) -> io::Result<Option<(String, String)>> {
    match std::fs::read_to_string(data.join(MARKER)) {
        Ok(text) => match text.trim().split_once(' ') {
            Some((id, url)) => Ok(Some((id.into(), url.into()))),
            None => Err(io::Error::other(format!("the file {MARKER} in the data directory is damaged"))),
        },
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

fn write_marker(disk: &RealDisk, data: &Path, id: &str, url: &str) -> io::Result<()> {
    let temporary = data.join(MARKER).with_extension("tmp");
    let mut file = disk.create(&temporary)?;
    file.append(&[format!("{id} {url}\n").as_bytes()])?;
    file.sync()?;
    disk.rename(&temporary, &data.join(MARKER))?;
    disk.sync_dir(data)
}

fn is_part(name: &Path) -> bool {
    name.extension().is_some_and(|extension| extension == "parquet")
}

fn text(name: &Path) -> io::Result<String> {
    name.to_str().map(Into::into).ok_or_else(|| io::Error::other("the name of a part is not UTF-8"))
}

impl Disk for BucketDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskWrite>> {
        self.local.create(path)
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskWrite>> {
        self.local.append(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskRead>> {
        let Some(name) = self.object(path)? else { return self.local.open(path) };
        if self.cache.touch(&name) {
            match self.local.open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.cache.forget(&name),
                found => return found,
            }
        }
        Ok(Arc::new(Object::open(&self.remote, name)?))
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.local.truncate(path, len)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let Some(name) = self.object(to)? else { return self.local.rename(from, to) };
        let file = self.local.open(from)?;
        self.remote.upload(&name, Arc::clone(&file))?;
        self.local.rename(from, to)?;
        self.cache.add(name.into(), file.size()?);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let Some(name) = self.object(path)? else { return self.local.remove(path) };
        self.remote.remove(&name)?;
        self.cache.forget(&name);
        match self.local.remove(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = self.local.list(dir)?;
        if dir == self.parts {
            names.extend(self.remote.list()?);
            names.sort();
            names.dedup();
        }
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.local.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.local.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.local.lock(path)
    }
}

#[cfg(test)]
mod tests;
