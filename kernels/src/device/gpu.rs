//! The opened CUDA device: its two lanes, its pool of buffers, and the kernels compiled for it so far.
//!
//! **Invariant:** asks whether the driver and NVRTC libraries are present before touching cudarc, which panics where they
//! are missing. Knows no kernel: a kernel brings its source and its arrays.

use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::CUresult;
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, CudaViewMut, DeviceRepr, DriverError, LaunchConfig,
    PushKernelArg,
};
use cudarc::nvrtc::{CompileError, CompileOptions, Ptx, compile_ptx_with_opts};

use super::argument::Argument;
use super::chunks::{self, CHUNK_BYTES_MAX};
use super::fault::Fault;
use super::pool::{Pool, class};
use super::turns::Turns;

/// Launches that are under way at a time.
const LANES: usize = 2;
/// The share of the free device memory that all launches under way may ask for.
const FREE_SHARE: f64 = 0.8;
/// The share of the device's memory that free buffers may hold.
const POOL_SHARE: usize = 4;

/// One CUDA device.
pub(crate) struct Gpu {
    context: Arc<CudaContext>,
    lanes: Turns<Lane>,
    name: String,
    arch: String,
    modules: Mutex<HashMap<&'static str, Arc<CudaModule>>>,
    pool: Mutex<Pool<CudaSlice<u8>>>,
    lost: AtomicBool,
}

/// A stream that one launch at a time uses.
pub(crate) struct Lane(Arc<CudaStream>);

/// A kernel and the shape it is launched in.
pub(crate) struct Kernel {
    /// Its source, compiled on first use.
    pub(crate) source: &'static str,
    pub(crate) name: &'static str,
    /// Threads of a block.
    pub(crate) threads: usize,
    /// Blocks per multiprocessor that a launch is spread over at most.
    pub(crate) blocks_each: usize,
}

/// A launch under way: its arrays, in the order of the kernel's parameters.
///
/// Where it is dropped before its results came back, its buffers are freed behind the launch and not used again.
pub(crate) struct Flight {
    buffers: Vec<(usize, CudaSlice<u8>)>,
}

/// One call's work in closures.
struct Chunks<'a, S, C> {
    gpu: &'a Gpu,
    submit: S,
    collect: C,
}

impl<S, C, T> chunks::Work<Lane> for Chunks<'_, S, C>
where
    S: FnMut(&Lane, Range<usize>) -> Result<Flight, Fault>,
    C: FnMut(&Landing, Range<usize>) -> Result<T, Fault>,
{
    type Flight = Flight;
    type Landed = T;

    fn submit(&mut self, lane: &mut Lane, items: Range<usize>) -> Result<Flight, Fault> {
        (self.submit)(lane, items)
    }

    fn collect(&mut self, lane: &mut Lane, items: Range<usize>, flight: Flight) -> Result<T, Fault> {
        let landing = Landing { lane, flight };
        let landed = (self.collect)(&landing, items)?;
        lane.0.synchronize()?;
        let mut pool = self.gpu.pool();
        landing.flight.buffers.into_iter().for_each(|(class, buffer)| pool.put(class, buffer));
        Ok(landed)
    }
}

/// A launch whose results are read.
pub(crate) struct Landing<'a> {
    lane: &'a Lane,
    flight: Flight,
}

impl Landing<'_> {
    /// The first `length` values of the kernel's parameter number `parameter`, once the launch has ended.
    #[expect(unsafe_code, reason = "a buffer of bytes is read as what the kernel wrote there")]
    pub(crate) fn read<T: DeviceRepr + Clone + Default>(
        &self,
        parameter: usize,
        length: usize,
    ) -> Result<Vec<T>, Fault> {
        if length == 0 {
            return Ok(Vec::new());
        }
        let (_, buffer) = &self.flight.buffers[parameter];
        // SAFETY: the types of parameters are numbers, for which all bits are values; a view longer than its buffer is `None`.
        let view = unsafe { buffer.transmute::<T>(length) };
        let view = view.ok_or_else(|| Fault::Other("a result longer than its buffer was asked for".to_owned()))?;
        let mut values = vec![T::default(); length];
        self.lane.0.memcpy_dtoh(&view, &mut values)?;
        self.lane.0.synchronize()?;
        Ok(values)
    }
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
            .map_err(|fault| fault.to_string())
    }

    fn connect(ordinal: usize) -> Result<Self, Fault> {
        let count = CudaContext::device_count()?;
        if !usize::try_from(count).is_ok_and(|count| ordinal < count) {
            return Err(Fault::Other(format!("the driver shows {count} CUDA devices")));
        }
        let context = CudaContext::new(ordinal)?;
        let (major, minor) = context.compute_capability()?;
        let lanes = (0..LANES).map(|_| Ok(Lane(context.new_stream()?))).collect::<Result<Vec<_>, Fault>>()?;
        Ok(Self {
            lanes: Turns::new(lanes),
            name: context.name()?,
            arch: format!("--gpu-architecture=compute_{major}{minor}"),
            modules: Mutex::default(),
            pool: Mutex::new(Pool::new(context.total_mem()? / POOL_SHARE)),
            lost: AtomicBool::new(false),
            context,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the device was lost.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Remembers that the device is lost; whether that was known.
    pub(super) fn lose(&self) -> bool {
        self.lost.swap(true, Ordering::Relaxed)
    }

    /// Runs work whose items take so many bytes each: `submit` launches a part of them, `collect` reads what came of it.
    /// The results of all launches, in order of the items.
    pub(crate) fn run<T>(
        &self,
        stopped: impl Fn() -> bool,
        sizes_bytes: &[usize],
        submit: impl FnMut(&Lane, Range<usize>) -> Result<Flight, Fault>,
        collect: impl FnMut(&Landing, Range<usize>) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let budget = (self.lane_bytes()? / 2).min(CHUNK_BYTES_MAX);
        chunks::run(&self.lanes, sizes_bytes, budget, stopped, Chunks { gpu: self, submit, collect })
    }

    /// How many blocks a launch of so many blocks of work gets, when each needs so many bytes of scratch space: as many as
    /// keep the device busy and fit a lane's share of the memory.
    pub(crate) fn blocks(&self, kernel: &Kernel, wanted: usize, scratch_bytes: usize) -> Result<usize, Fault> {
        use cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let processors = self.context.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let busy = usize::try_from(processors).unwrap_or(1).max(1) * kernel.blocks_each;
        let room = self.lane_bytes()? / 2 / scratch_bytes.max(1);
        Ok(wanted.min(busy).min(room).max(1))
    }

    /// Copies the arguments to the device and launches the kernel on a lane.
    ///
    /// # Safety
    /// The arguments are those of the kernel, in its order and of its types, and long enough for so many blocks.
    #[expect(unsafe_code, reason = "a launch trusts the kernel's source")]
    pub(crate) unsafe fn submit(
        &self,
        lane: &Lane,
        kernel: &Kernel,
        blocks: usize,
        arguments: &[Argument],
    ) -> Result<Flight, Fault> {
        let function = self.function(kernel.source, kernel.name)?;
        let mut buffers = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let (class, mut buffer) = self.buffer(lane, argument.bytes())?;
            fill(lane, argument, &mut buffer)?;
            buffers.push((class, buffer));
        }
        let size = |size: usize| u32::try_from(size).map_err(|_| Fault::Other("too many blocks".to_owned()));
        let grid_dim = (size(blocks)?, 1, 1);
        let shape = LaunchConfig { grid_dim, block_dim: (size(kernel.threads)?, 1, 1), shared_mem_bytes: 0 };
        let mut call = lane.0.launch_builder(&function);
        for (_, buffer) in &mut buffers {
            call.arg(buffer);
        }
        // SAFETY: the caller's promise.
        unsafe { call.launch(shape) }?;
        Ok(Flight { buffers })
    }

    /// A buffer of at least so many bytes, from the pool or new. Where memory is short, the pool is given up first.
    #[expect(unsafe_code, reason = "fresh device memory has no value")]
    fn buffer(&self, lane: &Lane, bytes: usize) -> Result<(usize, CudaSlice<u8>), Fault> {
        let class = class(bytes);
        if let Some(buffer) = self.pool().take(class) {
            return Ok((class, buffer));
        }
        // SAFETY: bytes of any value; `fill` writes what a kernel reads.
        let fresh = || unsafe { lane.0.alloc::<u8>(class) };
        if let Ok(buffer) = fresh() {
            return Ok((class, buffer));
        }
        self.pool().drain();
        lane.0.synchronize()?;
        Ok((class, fresh()?))
    }

    /// The bytes that one lane may use: those free now and those in the pool, divided among the lanes.
    fn lane_bytes(&self) -> Result<usize, Fault> {
        let (free, _total) = self.context.mem_get_info()?;
        #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a share of a size is a size")]
        let usable = ((free + self.pool().held_bytes()) as f64 * FREE_SHARE) as usize;
        Ok(usable / LANES)
    }

    /// The function `name` of a CUDA source, compiled by NVRTC on first use and kept for this device.
    fn function(&self, source: &'static str, name: &'static str) -> Result<CudaFunction, Fault> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = modules.get(name) {
            return Ok(module.load_function(name)?);
        }
        let module = self.context.load_module(compile(source, &self.arch)?)?;
        modules.insert(name, Arc::clone(&module));
        Ok(module.load_function(name)?)
    }

    fn pool(&self) -> MutexGuard<'_, Pool<CudaSlice<u8>>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies an argument to its buffer, or zeros it.
fn fill(lane: &Lane, argument: &Argument, buffer: &mut CudaSlice<u8>) -> Result<(), Fault> {
    let bytes = argument.bytes();
    match argument {
        _ if bytes == 0 => Ok(()),
        Argument::F64(values) => upload(lane, values, buffer),
        Argument::F32(values) => upload(lane, values, buffer),
        Argument::I64(values) => upload(lane, values, buffer),
        Argument::U32(values) => upload(lane, values, buffer),
        Argument::I16(values) => upload(lane, values, buffer),
        Argument::U8(values) => upload(lane, values, buffer),
        Argument::Zeros(_) | Argument::ZeroInts(_) => {
            Ok(lane.0.memset_zeros::<u8, CudaViewMut<u8>>(&mut buffer.slice_mut(..bytes))?)
        }
        Argument::Scratch(_) => Ok(()),
    }
}

#[expect(unsafe_code, reason = "a buffer of bytes is written as numbers")]
fn upload<T: DeviceRepr>(lane: &Lane, values: &[T], buffer: &mut CudaSlice<u8>) -> Result<(), Fault> {
    // SAFETY: the buffer holds bytes of any value; a view longer than it is `None`.
    let view = unsafe { buffer.transmute_mut::<T>(values.len()) };
    let mut view = view.ok_or_else(|| Fault::Other("a buffer is shorter than its argument".to_owned()))?;
    Ok(lane.0.memcpy_htod(values, &mut view)?)
}

impl From<DriverError> for Fault {
    fn from(error: DriverError) -> Self {
        let text = error.to_string();
        match error.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => Self::OutOfMemory(text),
            CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
            | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
            | CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | CUresult::CUDA_ERROR_INVALID_PC
            | CUresult::CUDA_ERROR_LAUNCH_FAILED
            | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
            | CUresult::CUDA_ERROR_ASSERT
            | CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR
            | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
            | CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE
            | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | CUresult::CUDA_ERROR_DEINITIALIZED
            | CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE
            | CUresult::CUDA_ERROR_NO_DEVICE
            | CUresult::CUDA_ERROR_UNKNOWN => Self::Lost(text),
            _ => Self::Other(text),
        }
    }
}

impl From<CompileError> for Fault {
    fn from(error: CompileError) -> Self {
        Self::Other(match error {
            CompileError::CompileError { log, .. } => log.to_string_lossy().into_owned(),
            other => format!("{other:?}"),
        })
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
