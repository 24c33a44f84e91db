//! What the twin tests of every kernel share: the devices they run on, the inputs they run on, NVRTC and the host shim.
//!
//! **Invariant:** tests only. A check that cannot run here says so loudly on standard error; `JUNO_REQUIRE_GPU=1`,
//! `JUNO_REQUIRE_NVRTC=1` and `JUNO_REQUIRE_SHIM=1` make that a failure.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::Device;
use crate::device::argument::Argument;

/// Defines a test that runs one body on every device present, the CPU first.
macro_rules! twin_test {
    ($(#[$meta:meta])* fn $name:ident($device:ident) $body:block) => {
        #[test]
        $(#[$meta])*
        fn $name() {
            let check = |$device: &$crate::Device| $body;
            for device in $crate::twin::devices() {
                eprintln!("{} on {device:?}", stringify!($name));
                check(&device);
            }
        }
    };
}
pub(crate) use twin_test;

/// The CPU, and the CUDA device where there is one.
pub(crate) fn devices() -> Vec<Device> {
    let mut devices = vec![Device::cpu()];
    match Device::parse("cuda") {
        Ok(device) => devices.push(device),
        Err(error) => skip("JUNO_REQUIRE_GPU", &error.to_string()),
    }
    devices
}

/// Says that a check does not run here, or fails where the variable requires it to.
pub(crate) fn skip(variable: &str, reason: &str) {
    assert!(std::env::var(variable).as_deref() != Ok("1"), "{variable}=1, but {reason}");
    eprintln!("SKIPPED: {reason} ({variable}=1 makes this a failure)");
}

/// Compiles a CUDA source through NVRTC where it can be loaded.
#[cfg(feature = "cuda")]
pub(crate) fn assert_compiles(source: &str) {
    match crate::device::compiles(source) {
        Some(result) => result.expect("NVRTC compiles the kernel"),
        None => skip("JUNO_REQUIRE_NVRTC", "libnvrtc cannot be loaded, so no kernel was compiled"),
    }
}

/// Runs a kernel through the host shim and returns its arrays after the run as doubles; `None` without g++.
pub(crate) fn run_on_host(
    kernel: &str,
    blocks: usize,
    threads: usize,
    arguments: &[Argument],
) -> Option<Vec<Vec<f64>>> {
    let program = build(kernel)?;
    let filled = |bytes: usize| bytes.div_ceil(8) * 8;
    let mut input: Vec<u8> =
        [blocks, threads, arguments.len()].iter().flat_map(|n| (*n as u64).to_le_bytes()).collect();
    for argument in arguments {
        let mut bytes = argument.content();
        input.extend((bytes.len() as u64).to_le_bytes());
        bytes.resize(filled(bytes.len()), 0);
        input.extend(bytes);
    }
    let mut child =
        Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the shim program starts");
    let mut stdin = child.stdin.take().expect("piped above");
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("the shim program ends");
    writer.join().expect("the writer does not panic").expect("the shim program reads its input");
    assert!(output.status.success(), "the shim program failed: {}", output.status);
    std::fs::remove_file(&program).expect("the program is still there");
    let mut rest = output.stdout.as_slice();
    let mut numbers = |argument: &Argument| {
        let bytes = rest.split_off(..filled(argument.bytes())).expect("the shim program writes every array");
        argument.numbers(&bytes[..argument.bytes()])
    };
    Some(arguments.iter().map(&mut numbers).collect())
}

/// Compiles the kernel's shim program with g++; `None` where there is no g++.
fn build(kernel: &str) -> Option<std::path::PathBuf> {
    let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let program =
        std::env::temp_dir().join(format!("juno-{kernel}-{}-{:?}", std::process::id(), std::thread::current().id()));
    let compiled = Command::new("g++")
        .args(["-std=c++17", "-O2", "-ffp-contract=off", "-I"])
        .arg(sources.join("shim"))
        .arg(sources.join(kernel).join("shim.cpp"))
        .arg("-o")
        .arg(&program)
        .output();
    let Ok(compiled) = compiled else {
        skip("JUNO_REQUIRE_SHIM", "g++ is not installed, so the kernel did not run on the host");
        return None;
    };
    assert!(compiled.status.success(), "g++ refuses the kernel:\n{}", String::from_utf8_lossy(&compiled.stderr));
    Some(program)
}

/// A fixed pseudo-random number in −1..1 for `i`.
pub(crate) fn noise(i: usize) -> f64 {
    let mixed = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// A sine wave of this season.
pub(crate) fn wave(t: usize, season: usize) -> f64 {
    (std::f64::consts::TAU * t as f64 / season as f64).sin()
}

/// Series of every kind that a kernel must stand: telemetry-like, random, and hostile. Values and offsets.
pub(crate) fn series_of_all_kinds() -> (Vec<f64>, Vec<usize>) {
    let telemetry = |t: usize| 50.0 + 20.0 * wave(t, 24) + if t / 24 % 7 >= 5 { -10.0 } else { 0.0 } + 3.0 * noise(t);
    let gaps = |t: usize| if t % 50 < 3 || (200..260).contains(&t) { f64::NAN } else { telemetry(t) };
    let spikes = |t: usize| if t % 97 == 5 { 1e6 } else { noise(t).abs() };
    let hostile = |t: usize| [f64::INFINITY, f64::NEG_INFINITY, 1e308, -1e308, f64::NAN, 0.0, 5e-324][t % 7];
    let kinds: Vec<Vec<f64>> = vec![
        (0..700).map(telemetry).collect(),
        (0..400).map(gaps).collect(),
        (0..300).map(|t| noise(t + 7)).collect(),
        (0..200).map(|t| 1e-3 * t as f64).collect(),
        (0..500).map(spikes).collect(),
        (0..150).map(hostile).collect(),
        vec![7.0; 120],
        (0..300).map(|t| if t < 150 { 1.0 } else { 2.0 }).collect(),
        (0..300).map(|t| if t % 6 == 0 { 1.0 } else { 0.0 }).collect(),
        vec![f64::NAN; 40],
        (0..30).map(|t| -5.0 + noise(t)).collect(),
        vec![1.0, 2.0, 3.0],
        vec![4.0],
        Vec::new(),
        (0..900).map(|t| (wave(t, 96) * 2.0).exp() * (1.0 + 0.1 * noise(t))).collect(),
    ];
    let mut offsets = vec![0];
    offsets.extend(kinds.iter().scan(0, |end, kind| {
        *end += kind.len();
        Some(*end)
    }));
    (kinds.concat(), offsets)
}
