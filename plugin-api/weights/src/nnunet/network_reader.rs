//! Reads a [`Network`] from a configuration of the plans, in the new form (`architecture`) and the old (`UNet_class_name`).

use serde_json::{Map, Value};

use crate::error::Result;

use super::configuration::stages;
use super::fields::{Fields, class, shown};
use super::network::{Encoder, Network};

const MAX_STAGES: usize = 16;
const MAX_FEATURES: usize = 8192;
const MAX_KERNEL: usize = 31;
const MAX_STRIDE: usize = 16;
const MAX_LAYERS: usize = 64;

/// Which of the two encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    Residual,
}

impl Class {
    fn named(own: &Fields<'_>, name: &str) -> Result<Self> {
        match class(name) {
            "PlainConvUNet" => Ok(Self::Plain),
            "ResidualEncoderUNet" => Ok(Self::Residual),
            _ => Err(own.unsupported(format!("network `{name}`; PlainConvUNet or ResidualEncoderUNet expected"))),
        }
    }
}

impl Network {
    /// Reads the network of a configuration.
    pub(super) fn read(own: &Fields<'_>) -> Result<Self> {
        let network = match (own.get("architecture"), own.get("UNet_class_name")) {
            (Some(_), _) => new_form(own)?,
            (None, Some(_)) => old_form(own)?,
            (None, None) => {
                return Err(own.wrong("neither `architecture` nor `UNet_class_name` says which network it is"));
            }
        };
        if let Some(kernel) = network.kernels.iter().find(|kernel| kernel.iter().any(|k| k % 2 == 0)) {
            return Err(own.unsupported(format!("a kernel of {kernel:?}; odd numbers expected")));
        }
        match network.strides.first() {
            Some([1, 1, 1]) => Ok(network),
            first => Err(own.unsupported(format!("the first stage has stride {first:?}; [1, 1, 1] expected"))),
        }
    }
}

fn new_form(own: &Fields<'_>) -> Result<Network> {
    let architecture = Fields::new(own.object("architecture")?, format!("{}: `architecture`", own.place));
    let class_of_network = Class::named(&architecture, architecture.text("network_class_name")?)?;
    let arguments = Fields::new(architecture.object("arch_kwargs")?, format!("{}: `arch_kwargs`", own.place));
    let counts = match class_of_network {
        Class::Plain => "n_conv_per_stage",
        Class::Residual => "n_blocks_per_stage",
    };
    refuse_what_is_not_built(&arguments, class_of_network, counts)?;
    let n = arguments.count("n_stages", MAX_STAGES)?;
    if n < 2 {
        return Err(arguments.unsupported("`n_stages` is 1; at least 2 expected"));
    }
    let features = arguments.counts("features_per_stage", n, MAX_FEATURES)?;
    let layers = arguments.counts(counts, n, MAX_LAYERS)?;
    let (eps, affine) = normalisation(&arguments)?;
    let encoder = match class_of_network {
        Class::Plain => Encoder::Plain { convolutions: layers },
        Class::Residual => Encoder::Residual {
            blocks: layers,
            stem: match arguments.get("stem_channels") {
                Some(_) => arguments.count("stem_channels", MAX_FEATURES)?,
                None => features.first().copied().unwrap_or_default(),
            },
        },
    };
    Ok(Network {
        kernels: arguments.triples("kernel_sizes", n, MAX_KERNEL)?,
        strides: arguments.triples("strides", n, MAX_STRIDE)?,
        encoder,
        decoder: arguments.counts("n_conv_per_stage_decoder", n - 1, MAX_LAYERS)?,
        bias: arguments.boolean("conv_bias", false)?,
        affine,
        eps,
        slope: slope(&arguments)?,
        features,
    })
}

/// An argument that changes the network and is not known would give another network under the same weights' names.
fn refuse_what_is_not_built(arguments: &Fields<'_>, of: Class, counts: &str) -> Result<()> {
    let known = |name: &str, value: &Value| match name {
        "n_stages" | "features_per_stage" | "kernel_sizes" | "strides" | "n_conv_per_stage_decoder" | "conv_bias" => {
            true
        }
        "norm_op_kwargs" | "nonlin_kwargs" | "dropout_op_kwargs" | "deep_supervision" => true,
        "conv_op" => value.as_str().map(class) == Some("Conv3d"),
        "norm_op" => value.as_str().map(class) == Some("InstanceNorm3d"),
        "nonlin" => value.as_str().map(class) == Some("LeakyReLU"),
        "nonlin_first" => value.as_bool() == Some(false),
        "block" => of == Class::Residual && value.as_str().map(class) == Some("BasicBlockD"),
        "stem_channels" => of == Class::Residual,
        _ => name == counts,
    };
    for (name, value) in arguments.map.iter().filter(|(_, value)| !value.is_null()) {
        if known(name, value) {
            continue;
        }
        let expected = match name.as_str() {
            "conv_op" => "; Conv3d expected (2-D networks are not run)",
            "norm_op" => "; InstanceNorm3d expected",
            "nonlin" => "; LeakyReLU expected",
            "nonlin_first" => "; false expected",
            "dropout_op" => "; no dropout expected",
            "block" => "; BasicBlockD expected",
            _ => ", which is not supported",
        };
        return Err(arguments.unsupported(format!("`{name}` is {}{expected}", shown(value))));
    }
    for name in ["conv_op", "norm_op", "nonlin"] {
        arguments.need(name)?;
    }
    Ok(())
}

/// `eps` and `affine`; the defaults are those of torch's instance normalisation.
fn normalisation(arguments: &Fields<'_>) -> Result<(f64, bool)> {
    let empty = Map::new();
    let own = match arguments.get("norm_op_kwargs") {
        Some(_) => arguments.object("norm_op_kwargs")?,
        None => &empty,
    };
    let own = Fields::new(own, format!("{}: `norm_op_kwargs`", arguments.place));
    for (name, value) in own.map {
        let known = match name.as_str() {
            "eps" | "affine" | "momentum" => true, // the momentum is that of running statistics
            "track_running_stats" => value.as_bool() == Some(false),
            _ => false,
        };
        if !known {
            return Err(own.unsupported(format!("`{name}` = {} is not supported", shown(value))));
        }
    }
    let eps = if own.get("eps").is_some() { own.number("eps")? } else { 1e-5 };
    if eps <= 0.0 {
        return Err(own.wrong(format!("`eps` is {eps}; a number above 0 expected")));
    }
    Ok((eps, own.boolean("affine", false)?))
}

/// What the leaky ReLU multiplies negative values with; the default is torch's.
fn slope(arguments: &Fields<'_>) -> Result<f32> {
    if arguments.get("nonlin_kwargs").is_none() {
        return Ok(0.01);
    }
    let own = Fields::new(arguments.object("nonlin_kwargs")?, format!("{}: `nonlin_kwargs`", arguments.place));
    if let Some(name) = own.map.keys().find(|name| !matches!(name.as_str(), "inplace" | "negative_slope")) {
        return Err(own.unsupported(format!("`{name}` is not supported")));
    }
    if own.get("negative_slope").is_none() {
        return Ok(0.01);
    }
    let slope = own.number("negative_slope")?;
    if !(0.0..=1.0).contains(&slope) {
        return Err(own.unsupported(format!("`negative_slope` is {slope}; a number from 0 to 1 expected")));
    }
    Ok(slope as f32)
}

/// The form of nnU-Net 2.0 to 2.4: bias, affine normalisation with 1e-5 and a slope of 0.01 are not written down.
fn old_form(own: &Fields<'_>) -> Result<Network> {
    let class_of_network = Class::named(own, own.text("UNet_class_name")?)?;
    // One number may stand for all stages there; the strides are always a list.
    let listed = own.get("n_conv_per_stage_encoder").is_some_and(Value::is_array);
    let n = stages(own, if listed { "n_conv_per_stage_encoder" } else { "pool_op_kernel_sizes" }, MAX_STAGES)?;
    if n < 2 {
        return Err(own.unsupported("1 stage; at least 2 expected"));
    }
    let base = own.count("UNet_base_num_features", MAX_FEATURES)?;
    let most = own.count("unet_max_num_features", MAX_FEATURES)?;
    let layers = own.counts("n_conv_per_stage_encoder", n, MAX_LAYERS)?;
    let features: Vec<usize> = (0..n).map(|stage| (base << stage).min(most)).collect();
    let encoder = match class_of_network {
        Class::Plain => Encoder::Plain { convolutions: layers },
        Class::Residual => Encoder::Residual { blocks: layers, stem: features.first().copied().unwrap_or_default() },
    };
    Ok(Network {
        kernels: own.triples("conv_kernel_sizes", n, MAX_KERNEL)?,
        strides: own.triples("pool_op_kernel_sizes", n, MAX_STRIDE)?,
        encoder,
        decoder: own.counts("n_conv_per_stage_decoder", n - 1, MAX_LAYERS)?,
        bias: true,
        affine: true,
        eps: 1e-5,
        slope: 0.01,
        features,
    })
}
