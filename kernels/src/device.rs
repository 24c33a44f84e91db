//! Where kernels run: threads of this machine, or one CUDA device.
//!
//! **Invariant:** asks whether the driver and NVRTC libraries are present before touching cudarc, which panics where
//! they are missing; a machine without CUDA builds, starts and works. Knows no kernel: a kernel brings its own source.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(feature = "cuda")]
pub(crate) use gpu::{Fault, Gpu};

use crate::{Error, Result};

/// Where kernels run. Cheap to clone; clones share the opened device and its compiled kernels.
#[derive(Clone)]
pub struct Device {
    threads: usize,
    stop: Arc<AtomicBool>,
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
        Self::cuda(ordinal).map_err(|reason| {
            Error::NoDevice(format!("device '{setting}' cannot be used: {reason}; use cpu or auto to run without it"))
        })
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

    /// The CPU with so many threads.
    #[cfg(test)]
    pub(crate) fn with_threads(threads: usize) -> Self {
        Self { threads, ..Self::cpu() }
    }

    /// How many threads the CPU twin, and the host's share of the CUDA twin, may use.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// The opened CUDA device, if this is one.
    #[cfg(feature = "cuda")]
    pub(crate) fn gpu(&self) -> Option<&Gpu> {
        self.gpu.as_deref()
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

/// The opened CUDA device.
#[cfg(feature = "cuda")]
mod gpu {
    use std::collections::HashMap;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::{Arc, Mutex, PoisonError};

    use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, DriverError};
    use cudarc::nvrtc::{CompileError, CompileOptions, Ptx, compile_ptx_with_opts};

    /// The share of the free device memory that one launch may ask for.
    const FREE_SHARE: f64 = 0.8;

    /// Why a call on an opened device failed: out of memory, a lost device, a source that does not compile.
    #[derive(Debug)]
    pub(crate) struct Fault(pub(crate) String);

    impl From<crate::Error> for Fault {
        fn from(error: crate::Error) -> Self {
            Self(error.to_string())
        }
    }

    impl From<DriverError> for Fault {
        fn from(error: DriverError) -> Self {
            Self(error.to_string())
        }
    }

    impl From<CompileError> for Fault {
        fn from(error: CompileError) -> Self {
            Self(match error {
                CompileError::CompileError { log, .. } => log.to_string_lossy().into_owned(),
                other => format!("{other:?}"),
            })
        }
    }

    /// One CUDA device, its stream, and the kernels compiled for it so far.
    pub(crate) struct Gpu {
        context: Arc<CudaContext>,
        stream: Arc<CudaStream>,
        name: String,
        arch: String,
        modules: Mutex<HashMap<&'static str, Arc<CudaModule>>>,
    }

    impl Gpu {
        /// Opens device `ordinal`, or says in words why not.
        pub(super) fn open(ordinal: usize) -> Result<Self, String> {
            if !driver_is_present() {
                return Err("the CUDA driver library (libcuda) is not installed".to_owned());
            }
            if !nvrtc_is_present() {
                return Err("the CUDA compiler library (libnvrtc) is not installed".to_owned());
            }
            // A driver too old to have a symbol makes cudarc panic: that device cannot be used either.
            catch_unwind(AssertUnwindSafe(|| Self::connect(ordinal)))
                .map_err(|_| "the CUDA driver is too old".to_owned())?
                .map_err(|Fault(text)| text)
        }

        fn connect(ordinal: usize) -> Result<Self, Fault> {
            let count = CudaContext::device_count()?;
            if !usize::try_from(count).is_ok_and(|count| ordinal < count) {
                return Err(Fault(format!("the driver shows {count} CUDA devices")));
            }
            let context = CudaContext::new(ordinal)?;
            let (major, minor) = context.compute_capability()?;
            let gpu = Self {
                stream: context.new_stream()?,
                name: context.name()?,
                arch: format!("--gpu-architecture=compute_{major}{minor}"),
                modules: Mutex::default(),
                context,
            };
            Ok(gpu)
        }

        pub(super) fn name(&self) -> &str {
            &self.name
        }

        /// The stream that every call of this device uses.
        pub(crate) fn stream(&self) -> &Arc<CudaStream> {
            &self.stream
        }

        /// How many bytes one launch may allocate now.
        pub(crate) fn budget_bytes(&self) -> Result<usize, Fault> {
            let (free, _total) = self.context.mem_get_info()?;
            #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a share of a size is a size")]
            Ok((free as f64 * FREE_SHARE) as usize)
        }

        /// The number of blocks that keep every multiprocessor of the device busy with `blocks_each`.
        pub(crate) fn blocks(&self, blocks_each: usize) -> Result<usize, Fault> {
            use cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
            let processors = self.context.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
            Ok(usize::try_from(processors).unwrap_or(1).max(1) * blocks_each)
        }

        /// The function `name` of a CUDA source, compiled by NVRTC on first use and kept for this device.
        pub(crate) fn function(&self, source: &'static str, name: &'static str) -> Result<CudaFunction, Fault> {
            let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(module) = modules.get(name) {
                return Ok(module.load_function(name)?);
            }
            let module = self.context.load_module(compile(source, &self.arch)?)?;
            modules.insert(name, Arc::clone(&module));
            Ok(module.load_function(name)?)
        }
    }

    /// Compiles CUDA C++ to PTX, with the options every kernel of this crate is written for: no contraction to fused
    /// multiply-adds, so that both twins round alike.
    pub(super) fn compile(source: &str, arch: &str) -> Result<Ptx, CompileError> {
        let options = vec![arch.to_owned(), "--std=c++17".to_owned(), "--fmad=false".to_owned()];
        compile_ptx_with_opts(source, CompileOptions { options, ..CompileOptions::default() })
    }

    /// Whether libcuda can be loaded.
    #[expect(unsafe_code, reason = "cudarc's question is an unsafe function")]
    fn driver_is_present() -> bool {
        // SAFETY: loads the system's libcuda and drops it again; the library has no load-time contract beyond that.
        unsafe { cudarc::driver::sys::is_culib_present() }
    }

    /// Whether libnvrtc can be loaded.
    #[expect(unsafe_code, reason = "cudarc's question is an unsafe function")]
    pub(super) fn nvrtc_is_present() -> bool {
        // SAFETY: loads the system's libnvrtc and drops it again; the library has no load-time contract beyond that.
        unsafe { cudarc::nvrtc::sys::is_culib_present() }
    }
}

/// Compiles a CUDA source for the oldest supported device, for tests on machines without one. `None`: no NVRTC here.
#[cfg(all(test, feature = "cuda"))]
pub(crate) fn compiles(source: &str) -> Option<std::result::Result<(), String>> {
    let compiled = || gpu::compile(source, "--gpu-architecture=compute_80").map(|_| ()).map_err(|e| Fault::from(e).0);
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
}
