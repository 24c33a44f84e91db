//! Each fault does what it says.

use super::*;

async fn start(dir: &std::path::Path, standby: bool) -> Arc<Service> {
    Arc::new(Service {
        began: Instant::now(),
        crept: AtomicU32::new(0),
        config: Config::default(),
        calls: Vec::new(),
        workers: Semaphore::new(4),
        faults: Faults::open(dir, standby),
        disk: Disk::open(dir.join("cache")).unwrap(),
        meters: Meters::new("shop"),
        http: reqwest::Client::new(),
    })
}

async fn broken(service: &Arc<Service>, kind: &str) -> StatusCode {
    break_it(State(Arc::clone(service)), Path(kind.to_owned())).await.unwrap();
    work(State(Arc::clone(service))).await.0
}

#[tokio::test]
async fn a_whole_service_works_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let service = start(dir.path(), false).await;
    assert_eq!(work(State(Arc::clone(&service))).await.0, StatusCode::OK);
    let text = metrics(State(Arc::clone(&service))).await;
    for line in
        ["requests_total{service=\"shop\"} 1", "errors_total{service=\"shop\"} 0", "disk_bytes{service=\"shop\"} 64"]
    {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert_eq!(break_it(State(service), Path("nonsense".into())).await, Err(StatusCode::NOT_FOUND));
}

#[tokio::test]
async fn faults_show_and_those_outside_of_memory_outlive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let service = start(dir.path(), false).await;
    assert_eq!(broken(&service, "full_disk").await, StatusCode::INSUFFICIENT_STORAGE);
    let again = start(dir.path(), false).await;
    assert_eq!(work(State(Arc::clone(&again))).await.0, StatusCode::INSUFFICIENT_STORAGE);
    std::fs::remove_file(dir.path().join("cache/core")).unwrap();
    assert_eq!(work(State(Arc::clone(&again))).await.0, StatusCode::OK);
    assert_eq!(broken(&again, "dependency_down").await, StatusCode::BAD_GATEWAY);
    let (again, standby) = (start(dir.path(), false).await, start(dir.path(), true).await);
    assert_eq!(work(State(again)).await.0, StatusCode::BAD_GATEWAY);
    assert_eq!(work(State(standby)).await.0, StatusCode::OK, "the standby has another database");
}

#[tokio::test]
async fn faults_in_memory_end_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let service = start(dir.path(), false).await;
    service.meters.worked(Duration::ZERO, false);
    assert_eq!(broken(&service, "errors").await, StatusCode::INTERNAL_SERVER_ERROR);
    let began = Instant::now();
    broken(&service, "slow").await;
    assert!(began.elapsed() >= SLOW);
    break_it(State(Arc::clone(&service)), Path("deadlock".into())).await.unwrap();
    let stuck = tokio::time::timeout(Duration::from_millis(50), work(State(Arc::clone(&service)))).await;
    assert!(stuck.is_err() && healthz(State(Arc::clone(&service))).await == "ok", "it works although it is stuck");
    break_it(State(Arc::clone(&service)), Path("hang".into())).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_millis(50), healthz(State(service))).await;
    assert!(answer.is_err(), "it answers although it hangs");
    let again = start(dir.path(), false).await;
    assert_eq!(work(State(again)).await.0, StatusCode::OK);
}

#[tokio::test]
async fn faults_that_come_and_go_leave_some_requests_well() {
    let dir = tempfile::tempdir().unwrap();
    let service = start(dir.path(), false).await;
    service.faults.set(Fault::Flaky).unwrap();
    let mut failed = 0;
    for _ in 0..16 {
        failed += usize::from(!work(State(Arc::clone(&service))).await.0.is_success());
    }
    assert_eq!(failed, 2, "each eighth one");
    let service = start(dir.path(), false).await;
    assert_eq!(broken(&service, "burst").await, StatusCode::INTERNAL_SERVER_ERROR);
    let service = start(dir.path(), false).await;
    service.crept.store(50, Ordering::Relaxed);
    let began = Instant::now();
    broken(&service, "creep").await;
    assert!(began.elapsed() >= 50 * CREEP && service.crept.load(Ordering::Relaxed) == 51);
}

#[tokio::test]
async fn one_that_crashes_does_so_after_each_start_until_a_standby_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let service = start(dir.path(), false).await;
    let lives = async |service: Arc<Service>| {
        tokio::time::timeout(Duration::from_secs(3), async move { service.faults.crash().await }).await.is_err()
    };
    assert!(lives(Arc::clone(&service)).await);
    service.faults.set(Fault::CrashLoop).unwrap();
    assert!(!lives(service).await && !lives(start(dir.path(), false).await).await);
    assert!(lives(start(dir.path(), true).await).await);
}

#[test]
fn a_configuration_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    std::fs::write(&path, "{\"workers\": \"many\"}").unwrap();
    let error = Config::read(Some(&path)).unwrap_err().to_string();
    assert!(error.contains("config") && error.contains("many"), "{error}");
}
