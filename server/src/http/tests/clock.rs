//! A clock that is turned forward: what expires does so by the clock of the database.

use std::sync::atomic::{AtomicI64, Ordering};

use juno_sql::engine::Options;
use juno_sql::engine::system::{Clock, RealClock, RealDisk, RealRandom};

use super::*;

/// The system's clock, turned forward.
#[derive(Default)]
struct TurnedClock {
    real: RealClock,
    ahead_us: AtomicI64,
}

impl Clock for TurnedClock {
    fn now_us(&self) -> i64 {
        self.real.now_us() + self.ahead_us.load(Ordering::Relaxed)
    }

    fn monotonic_us(&self) -> u64 {
        self.real.monotonic_us()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_good_for_a_day() {
    let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::new(TurnedClock::default()));
    let system = System::new(Arc::clone(&clock) as _, Arc::new(RealDisk), Arc::new(RealRandom));
    let db = Db::open_with(directory.path().join("data"), Options { system, ..Options::default() }).unwrap();
    let session = Session::open(db, Device::cpu()).await.unwrap();
    let counters = Counters::new();
    let gate = Gate::new(Arc::clone(&counters));
    gate.open(Arc::new(Doors { session, query: tokio::runtime::Handle::current(), counters }));
    let web = Web { router: router(gate), _directory: directory };
    for reason in ["one", "two"] {
        let body = json!({"engaged": true, "reason": reason}).to_string();
        assert_eq!(web.send("POST", "/api/v4/kill-switch", &[], body).await.status, 200);
    }
    let first = web.get("/api/v4/kill-switch?limit=1").await.json();
    let next = format!("/api/v4/kill-switch?limit=1&cursor={}", first["next_cursor"].as_str().expect("a cursor"));
    clock.ahead_us.store(23 * 3_600_000_000, Ordering::Relaxed);
    assert_eq!(web.get(&next).await.json()["items"][0]["reason"], "one");
    clock.ahead_us.store(25 * 3_600_000_000, Ordering::Relaxed);
    let expired = web.get(&next).await;
    assert_eq!((expired.status, expired.json()["type"].as_str()), (410, Some("/problems/cursor-expired")));
    assert_eq!(web.get("/problems/cursor-expired").await.status, 200);
    assert_eq!(web.get("/api/v4/kill-switch?limit=1").await.status, 200, "it starts anew without one");
}
