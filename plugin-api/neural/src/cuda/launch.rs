//! A plan on a card: loads the kernels once for each device, and launches. With `cudnn` the only unsafe code of this
//! module: what a kernel reads and writes is decided by [`Plan`], which tests run on the CPU.

use candle_core::cuda_backend::cudarc::driver::{DevicePtr, DevicePtrMut, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::{CudaStorageSlice, WrapErr};
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, Shape, bail};
use half::bf16;

use super::plan::{Argument, KERNELS_PTX, Plan};

/// An argument with its address.
enum Value {
    Address(u64),
    Int(i32),
    Float(f32),
}

/// Runs a plan on dense inputs of one device; the output is new.
///
/// # Errors
/// If the card has no room, or the driver refuses the kernels.
pub(super) fn launch(plan: &Plan, inputs: &[(&CudaStorage, &Layout)]) -> Result<(CudaStorage, Shape)> {
    let Some((first, _)) = inputs.first() else { bail!("{}: no input", plan.kernel) };
    let device = first.device.clone();
    let elements = plan.output.elements();
    // SAFETY (both): elements of `alloc` hold anything until the kernel has written them; a plan's kernel writes them all.
    let slice = match plan.output.dtype {
        DType::F32 => {
            let mut out = unsafe { device.alloc::<f32>(elements)? };
            submit(plan, &device, inputs, &mut out)?;
            CudaStorageSlice::F32(out)
        }
        DType::BF16 => {
            let mut out = unsafe { device.alloc::<bf16>(elements)? };
            submit(plan, &device, inputs, &mut out)?;
            CudaStorageSlice::BF16(out)
        }
        other => bail!("{}: makes {other:?}", plan.kernel),
    };
    Ok((CudaStorage { slice, device }, Shape::from(plan.output.shape.clone())))
}

fn submit<T>(
    plan: &Plan,
    device: &CudaDevice,
    inputs: &[(&CudaStorage, &Layout)],
    out: &mut impl DevicePtrMut<T>,
) -> Result<()> {
    let function = device.get_or_load_custom_func(plan.kernel, "gantry-neural", KERNELS_PTX)?;
    let stream = device.cuda_stream();
    // The guards note on the stream that the memory is in use; they go after the launch.
    let mut guards = Vec::with_capacity(inputs.len());
    let mut addresses = Vec::with_capacity(inputs.len());
    for (storage, layout) in inputs {
        if !layout.is_contiguous() {
            bail!("{}: expected dense tensors", plan.kernel)
        }
        let (address, guard, size) = match &storage.slice {
            CudaStorageSlice::F32(slice) => {
                let (address, guard) = slice.device_ptr(&stream);
                (address, guard, 4)
            }
            CudaStorageSlice::BF16(slice) => {
                let (address, guard) = slice.device_ptr(&stream);
                (address, guard, 2)
            }
            _ => bail!("{}: expected f32 or bf16", plan.kernel),
        };
        guards.push(guard);
        addresses.push(address + (layout.start_offset() * size) as u64);
    }
    let (out, _guard) = out.device_ptr_mut(&stream);
    let values = plan.arguments.iter().map(|argument| match *argument {
        Argument::Input(at) => addresses.get(at).copied().map(Value::Address),
        Argument::Output => Some(Value::Address(out)),
        Argument::Nothing => Some(Value::Address(0)),
        Argument::Int(number) => Some(Value::Int(number)),
        Argument::Float(number) => Some(Value::Float(number)),
    });
    let Some(values) = values.collect::<Option<Vec<Value>>>() else { bail!("{}: an input is missing", plan.kernel) };
    let mut launch = function.builder();
    for value in &values {
        match value {
            Value::Address(address) => launch.arg(address),
            Value::Int(number) => launch.arg(number),
            Value::Float(number) => launch.arg(number),
        };
    }
    let [x, y] = plan.grid;
    let config = LaunchConfig { grid_dim: (x, y, 1), block_dim: (plan.threads, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the arguments are those of the kernel, in number, order and type: tests launch every plan by the same list.
    // Addresses are of memory that outlives the launch on this stream: the guards hold it, and it is freed in stream order.
    unsafe { launch.launch(config) }.w()?;
    Ok(())
}
