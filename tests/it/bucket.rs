//! Parts in a bucket: a real juno process against an S3 server of another make.
//!
//! **Invariant:** where that server is missing, it is named loudly; with JUNO_REQUIRE_CLIENTS set, that is a failure.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::drivers::python;
use crate::name_program;

/// Runs until its standard input closes; prints its address when the bucket is there.
const S3: &str = "
import sys, boto3
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f'http://{host}:{port}'
boto3.client('s3', endpoint_url=url, region_name='us-east-1', aws_access_key_id='k', aws_secret_access_key='s').create_bucket(Bucket='juno')
print(url, flush=True)
sys.stdin.read()
";

struct S3Server {
    child: Child,
    url: String,
}

impl S3Server {
    fn start(python: &str) -> Self {
        let mut command = Command::new(python);
        command.args(["-c", S3]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("python runs");
        let mut url = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut url).expect("it prints its address");
        Self { child, url: url.trim().into() }
    }

    /// What `juno sql` prints over this bucket.
    fn sql(&self, data: &Path, prefix: &str, sql: &str) -> (bool, String) {
        let data = data.display().to_string();
        let store = format!("s3://juno/{prefix}");
        let args =
            ["sql", "--data", &data, "--object-store", &store, "--object-cache-bytes", "0", "--format", "csv", sql];
        let mut command = juno_tests::juno(&args);
        command
            .env("AWS_ENDPOINT", &self.url)
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_ACCESS_KEY_ID", "k")
            .env("AWS_SECRET_ACCESS_KEY", "s")
            .env("AWS_REGION", "us-east-1");
        let output = command.output().expect("juno runs");
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (output.status.success(), text)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn parts_go_to_s3_and_come_back_without_a_local_copy() {
    name_program();
    let Some(python) = python("moto.server, boto3") else { return };
    let s3 = S3Server::start(&python);
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let fill = "CREATE TABLE cpu (time TIMESTAMPTZ, host TEXT, usage DOUBLE PRECISION);
        INSERT INTO cpu SELECT to_timestamp_seconds(n), 'h' || n % 7, n FROM generate_series(1, 50000) AS s(n);
        CALL flush()";
    let (ok, text) = s3.sql(&data, "one", fill);
    assert!(ok, "{text}");
    let local = std::fs::read_dir(data.join("parts")).expect("the directory of parts").count();
    assert_eq!(local, 0, "parts were left on the local disk");
    let (ok, text) = s3.sql(&data, "one", "SELECT count(*) AS n, sum(usage) AS s FROM cpu");
    assert!(ok && text.contains("50000,1250025000"), "{text}");
    let (ok, text) = s3.sql(&dir.path().join("other"), "one", "SELECT 1");
    assert!(!ok && text.contains("belongs to another database"), "{text}");
    let args = ["sql", "--data", &data.display().to_string(), "SELECT 1"];
    let output = juno_tests::juno(&args).output().expect("juno runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("s3://juno/one"), "{text}");
}
