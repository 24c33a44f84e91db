//! Where kernels run: threads of this machine, or one CUDA device.
//!
//! What a device fails to do, for want of memory or because it was lost, the CPU twin does: with a warning in the log, and
//! counted. Where CUDA was asked for by name, that is an error instead.
//!
//! **Invariant:** a machine without CUDA builds, starts and works. Knows no kernel: a kernel brings its own source.

#[cfg(any(test, feature = "cuda"))]
pub(crate) mod argument;
#[cfg(any(test, feature = "cuda"))]
pub(crate) mod chunks;
#[cfg(any(test, feature = "cuda"))]
pub(crate) mod fault;
#[cfg(feature = "cuda")]
pub(crate) mod gpu;
#[cfg(any(test, feature = "cuda"))]
mod pool;
#[cfg(any(test, feature = "cuda"))]
mod turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[cfg(any(test, feature = "cuda"))]
use self::fault::Fault;
#[cfg(feature = "cuda")]
use self::gpu::Gpu;
use crate::{Error, Result};

/// Where kernels run. Cheap to clone; clones share the opened device and its compiled kernels.
#[derive(Clone)]
pub struct Device {
    threads: usize,
    stop: Arc<AtomicBool>,
    /// Whether CUDA was asked for by name, so that the CPU may not do what the device fails to do.
    demanded: bool,
    fallbacks: Arc<AtomicU64>,
    #[cfg(feature = "cuda")]
    gpu: Option<Arc<Gpu>>,
}

impl Device {
    /// The first CUDA device where the driver and NVRTC are installed and a device opens, else the CPU. Never panics.
    #[must_use]
    pub fn detect() -> Self {
        Self::cuda(0).unwrap_or_else(|_| Self::cpu())
    }

    /// The CPU, with one thread per core this process may use.
    #[must_use]
    pub fn cpu() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            stop: Arc::default(),
            demanded: false,
            fallbacks: Arc::default(),
            #[cfg(feature = "cuda")]
            gpu: None,
        }
    }

    /// What a setting asks for: `auto`, `cpu`, `cuda` or `cuda:N`.
    ///
    /// # Errors
    /// [`Error::NoDevice`] when CUDA is asked for and cannot be had, [`Error::Parameter`] for any other word.
    pub fn parse(setting: &str) -> Result<Self> {
        let ordinal = match setting.trim() {
            "auto" => return Ok(Self::detect()),
            "cpu" => return Ok(Self::cpu()),
            "cuda" => Some(0),
            other => other.strip_prefix("cuda:").and_then(|digits| digits.parse().ok()),
        };
        let Some(ordinal) = ordinal else {
            return Err(Error::Parameter(format!("'{setting}' is no device: use auto, cpu, cuda or cuda:N")));
        };
        let opened = Self::cuda(ordinal).map_err(|reason| {
            Error::NoDevice(format!("device '{setting}' cannot be used: {reason}; use cpu or auto to run without it"))
        })?;
        Ok(Self { demanded: true, ..opened })
    }

    /// The same device for one piece of work, which ends with [`Error::Stopped`] once the handle is dropped.
    #[must_use]
    pub fn stoppable(&self) -> (Self, Stop) {
        let stop = Arc::<AtomicBool>::default();
        (Self { stop: Arc::clone(&stop), ..self.clone() }, Stop(stop))
    }

    /// Whether nobody waits for the work any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// `"cpu"` or `"cuda"`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        #[cfg(feature = "cuda")]
        if self.gpu.is_some() {
            return "cuda";
        }
        "cpu"
    }

    /// The device in words: its model, or the number of CPU threads.
    #[must_use]
    pub fn name(&self) -> String {
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &self.gpu {
            return gpu.name().to_owned();
        }
        format!("{} CPU thread{}", self.threads, if self.threads == 1 { "" } else { "s" })
    }

    /// The CPU, with so many threads and at least one.
    #[must_use]
    pub fn cpu_with_threads(threads: usize) -> Self {
        Self { threads: threads.max(1), ..Self::cpu() }
    }

    /// How many threads the CPU twin, and the host's share of the CUDA twin, may use.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// How many kernel calls the CPU did because the device failed, over all clones of this device.
    #[must_use]
    pub fn fallbacks(&self) -> u64 {
        self.fallbacks.load(Ordering::Relaxed)
    }

    /// What the CUDA device makes of the work; `None` where the CPU twin is to do it.
    #[cfg(feature = "cuda")]
    pub(crate) fn offload<T>(
        &self,
        kernel: &'static str,
        work: impl FnOnce(&Gpu) -> std::result::Result<T, Fault>,
    ) -> Result<Option<T>> {
        let Some(gpu) = &self.gpu else { return Ok(None) };
        if gpu.is_lost() {
            return self.settle(kernel, true, Err(Fault::Lost("since an earlier call".to_owned())));
        }
        let outcome = work(gpu);
        let known = matches!(outcome, Err(Fault::Lost(_))) && gpu.lose();
        self.settle(kernel, known, outcome)
    }

    /// Decides what follows from a device's answer. A fault that is `known` is not logged again.
    #[cfg(any(test, feature = "cuda"))]
    fn settle<T>(
        &self,
        kernel: &'static str,
        known: bool,
        outcome: std::result::Result<T, Fault>,
    ) -> Result<Option<T>> {
        let fault = match outcome {
            Ok(result) => return Ok(Some(result)),
            Err(Fault::Stopped) => return Err(Error::Stopped),
            Err(fault) => fault,
        };
        if self.demanded {
            return Err(Error::NoDevice(format!(
                "{kernel} failed on {}: {fault}; use the device auto to let the CPU do what a device cannot",
                self.name()
            )));
        }
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
        if !known {
            tracing::warn!(device = self.name(), kernel, %fault, "the CPU does what the device cannot");
        }
        Ok(None)
    }

    /// Opens CUDA device `ordinal`, or says in words why not.
    #[cfg(feature = "cuda")]
    fn cuda(ordinal: usize) -> std::result::Result<Self, String> {
        let gpu = Gpu::open(ordinal)?;
        Ok(Self { gpu: Some(Arc::new(gpu)), ..Self::cpu() })
    }

    /// Says that this build has no CUDA.
    #[cfg(not(feature = "cuda"))]
    fn cuda(_ordinal: usize) -> std::result::Result<Self, String> {
        Err("this build has the cuda feature off".to_owned())
    }
}

/// Stops the work of a [`Device::stoppable`] when it is dropped.
#[derive(Debug)]
pub struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({}: {})", self.kind(), self.name())
    }
}

/// A loop that the compiler may build for wider vectors; `run` and all it calls must be `#[inline(always)]`.
pub(crate) trait Loop {
    /// The loop.
    fn run(self);
}

/// Runs a loop built with AVX2's instructions where this machine has them. The results are the same.
#[expect(unsafe_code, reason = "the processor is asked first whether it has the instructions")]
pub(crate) fn vectorised(work: impl Loop) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { with_avx2(work) };
    }
    work.run();
}

/// The same, built with AVX2. No fused multiply-add: results do not depend on the machine.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2(work: impl Loop) {
    work.run();
}

/// Compiles a CUDA source for the oldest supported device, for tests on machines without one. `None`: no NVRTC here.
#[cfg(all(test, feature = "cuda"))]
pub(crate) fn compiles(source: &str) -> Option<std::result::Result<(), String>> {
    let compiled =
        || gpu::compile(source, "--gpu-architecture=compute_80").map(|_| ()).map_err(|e| Fault::from(e).to_string());
    gpu::nvrtc_is_present().then(compiled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detection_always_finds_some_device() {
        assert!(["cpu", "cuda"].contains(&Device::detect().kind()));
    }

    #[test]
    fn the_cpu_says_how_many_threads_it_has() {
        assert!(Device::cpu().name().contains("CPU thread"));
        assert_eq!(Device::parse("cpu").unwrap().kind(), "cpu");
    }

    #[test]
    fn a_cuda_device_that_is_not_there_is_an_error_that_names_the_way_out() {
        let Err(Error::NoDevice(text)) = Device::parse("cuda:4096") else { panic!("no machine has 4097 devices") };
        assert!(text.contains("'cuda:4096'") && text.contains("cpu or auto"), "{text}");
    }

    #[test]
    fn other_words_are_refused() {
        for word in ["", "gpu", "cuda:", "cuda:x", "CPU"] {
            assert!(matches!(Device::parse(word), Err(Error::Parameter(_))), "{word}");
        }
    }
    #[test]
    fn what_a_device_cannot_do_is_the_cpus_and_counted() {
        let device = Device::cpu();
        let clone = device.clone();
        assert_eq!(device.settle("pelt", false, Ok(1)).unwrap(), Some(1));
        for fault in [Fault::OutOfMemory("2 GiB".to_owned()), Fault::Lost("unplugged".to_owned())] {
            assert_eq!(device.settle("pelt", false, Err::<u8, _>(fault)).unwrap(), None);
        }
        assert!(matches!(device.settle("pelt", false, Err::<u8, _>(Fault::Stopped)), Err(Error::Stopped)));
        assert_eq!((device.fallbacks(), clone.fallbacks()), (2, 2));
    }

    #[test]
    fn a_device_that_was_asked_for_by_name_fails_in_words() {
        let device = Device { demanded: true, ..Device::cpu() };
        let failed = device.settle("pelt", false, Err::<u8, _>(Fault::OutOfMemory("2 GiB".to_owned())));
        let Err(Error::NoDevice(text)) = failed else { panic!("the CPU must not do it") };
        assert!(
            text.contains("pelt failed") && text.contains("out of device memory") && text.contains("auto"),
            "{text}"
        );
        assert_eq!(device.fallbacks(), 0);
    }
}
