//! A disk that takes no parts for a while: writers are turned away, and let in again. What there are too many of is sent away.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex};

use juno_sql::engine::Options;
use juno_sql::engine::system::{Disk, DiskRead, DiskWrite, RealDisk, System};

use super::*;

/// Local files; while it is stuck, whoever begins a part waits.
#[derive(Default)]
struct SlowDisk {
    stuck: Mutex<bool>,
    changed: Condvar,
}

impl SlowDisk {
    fn stick(&self, stuck: bool) {
        *self.stuck.lock().unwrap() = stuck;
        self.changed.notify_all();
    }
}

impl Disk for SlowDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskWrite>> {
        if path.parent().is_some_and(|dir| dir.ends_with("parts")) {
            drop(self.changed.wait_while(self.stuck.lock().unwrap(), |stuck| *stuck).unwrap());
        }
        RealDisk.create(path)
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskWrite>> {
        RealDisk.append(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskRead>> {
        RealDisk.open(path)
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        RealDisk.truncate(path, len)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        RealDisk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        RealDisk.lock(path)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_rows_cannot_be_written_to_parts_writers_are_sent_away_and_then_let_in_again() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(SlowDisk::default());
    let system = System::real().with_disk(Arc::clone(&disk) as _);
    // Every commit is more than memory may hold.
    let options = Options { memtable_bytes_max: 1, frozen_bytes_max: 0, system, ..Options::default() };
    let db = Db::open_with(directory.path().join("data"), options).unwrap();
    let session = Session::open(db.clone(), Device::cpu()).await.unwrap();
    let counters = Counters::new();
    let gate = Gate::with_patience(Arc::clone(&counters), Arc::default(), Duration::ZERO);
    gate.open(Arc::new(Doors { session, query: tokio::runtime::Handle::current(), counters }));
    let web = Web { router: router(gate), _directory: directory };
    let room = async || {
        while !db.has_room() {
            tokio::task::yield_now().await;
        }
    };
    room().await;
    disk.stick(true);
    assert_eq!(web.write("cpu,host=a v=1 1000").await.status, 204);
    while db.has_room() {
        tokio::task::yield_now().await;
    }
    for path in ["/write", "/api/v2/write", "/api/v4/ingest?table=cpu"] {
        let refused = web.send("POST", path, &[("content-type", "text/csv")], "time,host,v\n2026-01-01,a,2\n").await;
        assert_eq!((refused.status, refused.headers["retry-after"].to_str().unwrap()), (503, "1"), "{path}");
        assert_eq!(refused.json()["type"], "/problems/overloaded", "{path}");
    }
    assert_eq!(web.rows("SELECT host, v FROM cpu").await, json!([["a", 1.0]]), "reading goes on");
    disk.stick(false);
    room().await;
    assert_eq!(web.write("cpu,host=b v=2 2000").await.status, 204);
    assert_eq!(web.rows("SELECT host, v FROM cpu ORDER BY host").await, json!([["a", 1.0], ["b", 2.0]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_uploads_at_a_time_than_there_is_memory_for_are_sent_away() {
    let (directory, counters) = (tempfile::tempdir().unwrap(), Counters::new());
    let db = Db::open(directory.path().join("data")).unwrap();
    let session = Session::open(db, Device::cpu()).await.unwrap();
    let gate = Gate::with_patience(Arc::clone(&counters), Arc::default(), Duration::ZERO);
    gate.open(Arc::new(Doors { session, query: tokio::runtime::Handle::current(), counters }));
    let mut turns = Vec::new();
    for _ in 0..UPLOADS_MAX {
        turns.push(gate.upload_turn().await.unwrap());
    }
    let web = Web { router: router(gate), _directory: directory };
    let refused = web.write("cpu v=1 1000").await;
    assert_eq!((refused.status, refused.headers["retry-after"].to_str().unwrap()), (503, "1"));
    turns.pop();
    assert_eq!(web.write("cpu v=1 1000").await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streams_that_are_left_are_told_and_one_too_many_is_sent_away() {
    let (directory, counters) = (tempfile::tempdir().unwrap(), Counters::new());
    let session = Session::open(Db::open(directory.path().join("data")).unwrap(), Device::cpu()).await.unwrap();
    let gate = Gate::new(Arc::clone(&counters));
    gate.open(Arc::new(Doors { session, query: tokio::runtime::Handle::current(), counters }));
    let mut turns = Vec::new();
    for _ in 1..STREAMS_MAX {
        turns.push(gate.stream_turn().unwrap());
    }
    let mut web = router(Arc::clone(&gate));
    let ask = || Request::builder().uri("/api/v4/events").body(Body::empty()).unwrap();
    let last = web.call(ask()).await.unwrap();
    assert_eq!((last.status().as_u16(), last.headers()["ratelimit"].to_str().unwrap()), (200, "\"streams\";r=0"));
    let refused = web.call(ask()).await.unwrap();
    let policy = format!("\"streams\";q={STREAMS_MAX};qu=\"concurrent-requests\"");
    assert_eq!((refused.status().as_u16(), refused.headers()["ratelimit-policy"].to_str().unwrap()), (429, &*policy));
    assert_eq!(refused.headers()["retry-after"], "1");
    drop((last, turns));
}
