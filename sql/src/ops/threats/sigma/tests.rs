//! How files of rules come and go.

use juno_kernels::Device;

use super::*;

const SHELL: &str = "title: Shell\nid: shell\nlevel: high\nstatus: test\ntags: [attack.t1059.004]\nlogsource:\n    category: \
                     process_creation\ndetection:\n    selection:\n        Image|endswith: /sh\n    condition: selection\n";

async fn open() -> (tempfile::TempDir, Session) {
    let directory = tempfile::tempdir().expect("a directory");
    let db = juno_engine::Db::open(directory.path()).expect("a database");
    let own = Session::open(db, Device::cpu()).await.expect("migrations");
    (directory, own)
}

fn file(name: &str, text: &str) -> RuleFile {
    RuleFile { name: name.into(), text: Ok(text.into()) }
}

async fn known(own: &Session) -> Vec<String> {
    let rows =
        own.objects("SELECT source_file, id FROM sigma_rules ORDER BY source_file, id", &[]).await.expect("rows");
    let text = |row: &Map<String, Value>, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| format!("{} {}", text(row, "source_file"), text(row, "id"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_takes_the_place_of_what_it_was_and_a_bad_one_of_nothing() {
    let (_directory, own) = open().await;
    assert_eq!(edition(&own).await.expect("a look"), None);
    let two = format!("{SHELL}---\n{}", SHELL.replace("shell", "bash").replace("/sh", "/bash"));
    let told = load_rules(&own, &[file("a.yml", &two), file("b/c.yml", &SHELL.replace("shell", "other"))])
        .await
        .expect("rules");
    assert_eq!(told.iter().map(|one| one.rules.clone()).collect::<Vec<_>>(), [Ok(2), Ok(1)]);
    assert_eq!(known(&own).await, ["a.yml bash", "a.yml shell", "b/c.yml other"]);
    let first = edition(&own).await.expect("a look");
    let row = own.objects("SELECT * FROM sigma_rules WHERE id = 'shell'", &[]).await.expect("rows").remove(0);
    assert_eq!(
        (&row["level"], &row["techniques"], &row["kind"]),
        (&"high".into(), &serde_json::json!(["T1059.004"]), &"rule".into())
    );
    let bad = RuleFile { name: "b/c.yml".into(), text: Err("it is no UTF-8".into()) };
    let told = load_rules(&own, &[file("a.yml", "title: nothing"), bad]).await.expect("a load");
    assert!(told[0].rules.as_ref().is_err_and(|what| what.contains("line 1")), "{told:?}");
    assert_eq!(told[1].rules, Err("it is no UTF-8".into()));
    assert_eq!(known(&own).await, ["a.yml bash", "a.yml shell", "b/c.yml other"], "what is refused leaves what it was");
    load_rules(&own, &[file("a.yml", SHELL)]).await.expect("rules");
    assert_eq!(known(&own).await, ["a.yml shell"], "a file that is gone is forgotten");
    assert_ne!(edition(&own).await.expect("a look"), first);
    judge(&own).await.map(drop).expect("rules that run");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_do_not_go_together_change_nothing() {
    let (_directory, own) = open().await;
    load_rules(&own, &[file("a.yml", SHELL)]).await.expect("rules");
    // Each counts the other, which no file by itself shows.
    let counts = |id: &str, other: &str| {
        let rule = SHELL.replace("shell", other);
        let count = format!(
            "title: {id}\nid: {id}\ncorrelation:\n    type: event_count\n    rules: [{other}]\n    group-by: [User]\n    timespan: 5m\n    \
             condition: {{gte: 3}}\n"
        );
        format!("{rule}---\n{count}")
    };
    let files = [file("x.yml", &counts("one", "two")), file("y.yml", &counts("two", "one"))];
    let refused = load_rules(&own, &files).await.expect_err("a circle");
    assert!(matches!(&refused, Error::InvalidText(text) if text.contains("run together")), "{refused}");
    assert_eq!(known(&own).await, ["a.yml shell"]);
}
