//! Conversion between the floor's tensors and libtorch's.

use floor::job::DType;
use floor::pretrained::{Elements, TensorData};
use tch::{Device, Kind, Tensor};

/// libtorch's name for a compute dtype.
pub(crate) fn kind(dtype: DType) -> Kind {
    match dtype {
        DType::Bf16 => Kind::BFloat16,
        DType::Fp32 => Kind::Float,
        DType::Fp64 => Kind::Double,
    }
}

/// The dtype of norms, losses and adapters: single, or double if everything is double.
pub(crate) fn wide(kind: Kind) -> Kind {
    if kind == Kind::Double { Kind::Double } else { Kind::Float }
}

/// A tensor of the given dtype with the stored elements, converted once.
pub(crate) fn from_stored(data: &TensorData, kind: Kind, device: Device) -> Tensor {
    let shape: Vec<i64> = data.shape.iter().map(|&n| n as i64).collect();
    let tensor = match &data.elements {
        Elements::F32(values) => from_bytes(values, &shape, Kind::Float),
        Elements::F16(values) => from_bytes(values, &shape, Kind::Half),
        Elements::Bf16(values) => from_bytes(values, &shape, Kind::BFloat16),
    };
    tensor.to_kind(kind).to_device(device)
}

/// Copies plain numbers into a new tensor, whose storage libtorch aligns to 64 bytes.
fn from_bytes<T>(values: &[T], shape: &[i64], kind: Kind) -> Tensor {
    // SAFETY: f32, f16 and bf16 are plain numbers without padding, and the slice covers exactly their bytes.
    let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
    Tensor::from_data_size(bytes, shape, kind)
}

/// The elements of a tensor as f32.
pub(crate) fn to_f32(tensor: &Tensor) -> Result<Vec<f32>, tch::TchError> {
    Vec::<f32>::try_from(tensor.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]))
}
