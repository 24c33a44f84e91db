//! How fast the kernels run: `cargo run --release -p juno-benches --bin kernels`.
//!
//! One core of this machine first, then the CUDA device where there is one. `--device-only` leaves the core out, `--core-only`
//! the device. The peers beside these figures are printed by `python3 benches/quality/kernel_peers.py`.
//!
//! **Invariant:** inputs are made from a seed; nothing is read but /proc.

use anyhow::Result;
use clap::Parser;
use juno_benches::kernel_speed::{Amounts, measure, print};
use juno_benches::machine;
use juno_kernels::Device;

/// Speed of the kernels.
#[derive(Parser)]
struct Arguments {
    /// Measure no CUDA device.
    #[arg(long, conflicts_with = "device_only")]
    core_only: bool,
    /// Measure the CUDA device alone; fails where there is none.
    #[arg(long)]
    device_only: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    println!("kernels; {}", machine::describe());
    if !arguments.device_only {
        let core = Device::cpu_with_threads(1);
        print(&core, &measure(&core, Amounts::CORE)?);
    }
    let device = match arguments.device_only {
        true => Device::parse("cuda")?,
        false => Device::detect(),
    };
    match device.kind() {
        "cuda" if !arguments.core_only => print(&device, &measure(&device, Amounts::DEVICE)?),
        _ => println!("\nNo CUDA device was measured."),
    }
    Ok(())
}
