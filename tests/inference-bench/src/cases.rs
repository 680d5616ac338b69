//! What is compared: the generator, and single layers. Each case hands the same weights and input to all contestants.

use std::cell::RefCell;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;
use std::time::Instant;

use candle_core::{Device, Tensor};
use cyclegan_generator::network::{Calibration, DucosyGenerator, Sizes};
use gantry_neural::{
    Blocked, ComputeDevice, Conv, ConvConfig, Engine, Finish, NetworkWeights, Precision, Shape, Workers, whole_network,
};
use gantry_plugin::Isa;
use gantry_tests::fixture::npy;
use gantry_tests::recipe;
use gantry_weights::{StateDict, to_safetensors};
use serde_json::{Value as Json, json};

use crate::contest::{Contest, Contestant};
use crate::peak::Units;
use crate::plain_candle::PlainGenerator;
use crate::torch::{TorchMode, TorchServer};
use crate::unet;

/// Half the width of each window: what a difference of 1 in [-1, 1] is in HU.
const WINDOWS: &[(&str, f64)] = &[("HU in -150..250", 200.0), ("HU in -1000..-150", 425.0)];

/// PyTorch in the modes asked for, each with the server of its instruction set.
pub type Rivals = Vec<(TorchMode, Rc<RefCell<TorchServer>>)>;

/// What all cases share.
pub struct Setting<'a> {
    /// Threads of every contestant.
    pub threads: usize,
    /// Runs in a row that are timed together.
    pub slices: usize,
    /// Whether plain Candle takes part.
    pub candle: bool,
    /// Gantry.
    pub ways: &'a [Way],
    /// PyTorch.
    pub rivals: &'a Rivals,
    /// Where weights and inputs for PyTorch are written.
    pub folder: &'a Path,
}

/// A precision on an instruction set, written `f32x3` or `f32x3@avx2`.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    pub precision: Precision,
    pub isa: Isa,
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (precision, isa) = text.split_once('@').unwrap_or((text, "auto"));
        let isa = Isa::chosen(isa).map_err(words)?;
        Precision::named(precision).map(|precision| Self { precision, isa }).ok_or_else(|| format!("`{precision}`?"))
    }
}

impl Way {
    fn engine(self) -> Result<Engine, String> {
        Engine::new(self.isa, self.precision).map_err(words)
    }

    fn name(self) -> String {
        format!("Gantry {} {}", self.precision, self.isa)
    }

    /// The units that the precision is meant for; Winograd's transforms may get more out of them than their peak.
    fn units(self) -> Option<Units> {
        match self.precision {
            Precision::F32x3 if self.isa == Isa::Amx => Some(Units::AmxBf16),
            Precision::F32 | Precision::F32x3 => Units::of_f32(self.isa),
            Precision::Bf16 => Units::of_bf16(self.isa),
            Precision::Int8 => Units::of_int8(self.isa),
        }
    }
}

/// The published generator (9 blocks, attention, no masks) on slices of `edge` x `edge`.
pub fn generator<'a>(setting: &Setting<'a>, edge: usize) -> Result<Contest<'a>, String> {
    let sizes = Sizes { blocks: 9, cbam: true };
    let channels = 1;
    let hyper = [("width", 64), ("cin", channels as i64), ("blocks", sizes.blocks as i64), ("cbam", 1)];
    let weights = recipe::generator("bench", hyper);
    let input = slice(channels, edge);
    let question = json!({ "case": "generator", "size": [edge, edge], "channels": channels, "blocks": sizes.blocks });
    let (rivals, _) = setting.rivals(&question, &weights, &input)?;
    let operations = generator_operations(channels, sizes, edge);
    let mut contestants: Vec<Box<dyn Contestant>> = Vec::new();
    let mut calibration = Calibration::new();
    if setting.ways.iter().any(|way| way.precision == Precision::Int8) {
        let engine = Engine::new(Isa::best(), Precision::F32).map_err(words)?;
        let exact = DucosyGenerator::new(&engine, in_candle(weights.clone())?, sizes, &calibration).map_err(words)?;
        calibration = exact.calibrate(&input).map_err(words)?;
    }
    for way in setting.ways {
        let engine = way.engine()?;
        let network = DucosyGenerator::new(&engine, in_candle(weights.clone())?, sizes, &calibration).map_err(words)?;
        contestants.push(
            setting.ours(way.name(), way.units(), input.clone(), move |x| network.forward(x, &mut |_, _, _| Ok(()))),
        );
    }
    contestants.extend(rivals);
    if setting.candle {
        let plain = PlainGenerator::new(&weights, sizes.blocks, sizes.cbam).map_err(words)?;
        contestants.push(
            setting.ours("plain Candle".to_owned(), Units::of_f32(Isa::best()), input, move |x| plain.forward(x)),
        );
    }
    let title = format!("9-block generator, {edge} x {edge}{}, {} threads", setting.of_slices(), setting.threads);
    Ok(setting.contest(title, operations, contestants, WINDOWS))
}

/// Two for each multiplication of the published generator's convolutions, 64 wide, on `edge` x `edge`, a multiple of 4.
fn generator_operations(channels: usize, sizes: Sizes, edge: usize) -> f64 {
    let at = |scale: usize, terms: usize| (edge / scale).pow(2) * terms;
    let attention = if sizes.cbam { 2 * 49 } else { 0 };
    let ends = at(1, 49 * channels * 64) + at(1, 49 * 64);
    let down = at(2, 9 * 64 * 128) + at(4, 9 * 128 * 256);
    let blocks = sizes.blocks * at(4, 2 * 9 * 256 * 256 + attention);
    let up = at(2, 9 * 256 * 128) + at(1, 9 * 128 * 64);
    2.0 * (ends + down + blocks + up) as f64
}

/// A convolution `channels` -> `channels`, 3 x 3, border of zeros, on `edge` x `edge`.
pub fn conv2d<'a>(setting: &Setting<'a>, channels: usize, edge: usize) -> Result<Contest<'a>, String> {
    let weights = layer(channels, &[3, 3])?;
    let input = tensor("conv2d/input", &[1, channels, edge, edge])?;
    let question = json!({ "case": "conv2d", "size": [edge, edge], "channels": [channels, channels] });
    let (rivals, operations) = setting.rivals(&question, &weights, &input)?;
    let config = ConvConfig { padding: [0, 1, 1], activation: Some(1.0), ..ConvConfig::default() };
    let [weight, bias] = parts(weights)?;
    let mut contestants = setting.layers(&weight, &bias, config, &input)?;
    contestants.extend(rivals);
    if setting.candle {
        let units = Units::of_f32(Isa::best());
        contestants.push(setting.ours("plain Candle".to_owned(), units, input, move |x| {
            x.conv2d(&weight, 1, 1, 1, 1)?.broadcast_add(&bias.reshape((1, (), 1, 1))?)
        }));
    }
    let title = format!("conv2d {channels} -> {channels}, 3 x 3, {edge} x {edge}, {} threads", setting.threads);
    Ok(setting.contest(title, operations, contestants, &[]))
}

/// A convolution `channels` -> `channels`, 3 x 3 x 3, border of zeros.
pub fn conv3d<'a>(setting: &Setting<'a>, channels: usize, size: [usize; 3]) -> Result<Contest<'a>, String> {
    let weights = layer(channels, &[3, 3, 3])?;
    let input = tensor("conv3d/input", &[1, channels, size[0], size[1], size[2]])?;
    let question = json!({ "case": "conv3d", "size": size, "channels": [channels, channels] });
    let (rivals, operations) = setting.rivals(&question, &weights, &input)?;
    let config = ConvConfig { padding: [1; 3], activation: Some(1.0), ..ConvConfig::default() };
    let [weight, bias] = parts(weights)?;
    let mut contestants = setting.layers(&weight, &bias, config, &input)?;
    contestants.extend(rivals);
    let title = format!("conv3d {channels} -> {channels}, 3 x 3 x 3, {size:?}, {} threads", setting.threads);
    Ok(setting.contest(title, operations, contestants, &[]))
}

/// A whole nnU-Net patch: six stages of two convolutions, 19 classes.
pub fn unet<'a>(setting: &Setting<'a>, edge: usize) -> Result<Contest<'a>, String> {
    let (classes, features) = (19, [32, 64, 128, 256, 320, 320]);
    let weights = unet::weights(1, classes, &features).map_err(words)?;
    let input = tensor("unet/input", &[1, 1, edge, edge, edge])?;
    let question = json!({ "case": "unet", "size": [edge, edge, edge], "classes": classes, "features": features });
    let (rivals, operations) = setting.rivals(&question, &weights, &input)?;
    let mut contestants: Vec<Box<dyn Contestant>> = Vec::new();
    for way in setting.ways.iter().filter(|way| unet::takes(way.precision)) {
        let network = unet::network(&way.engine()?, weights.clone(), classes, &features)?;
        contestants.push(setting.ours(way.name(), way.units(), input.clone(), move |x| network.forward(x)));
    }
    contestants.extend(rivals);
    let title = format!("nnU-Net patch {edge} x {edge} x {edge}, {} threads", setting.threads);
    Ok(setting.contest(title, operations, contestants, &[]))
}

impl<'a> Setting<'a> {
    fn contest(
        &self,
        title: String,
        operations: f64,
        contestants: Vec<Box<dyn Contestant + 'a>>,
        scales: &'static [(&'static str, f64)],
    ) -> Contest<'a> {
        let rivals = self.rivals.iter().map(|(mode, _)| torch_name(mode)).collect();
        Contest { title, operations: operations * self.slices as f64, contestants, rivals, scales }
    }

    fn of_slices(&self) -> String {
        if self.slices == 1 { String::new() } else { format!(", {} slices", self.slices) }
    }

    /// Something of this process, from tensor to tensor.
    fn ours(
        &self,
        name: String,
        units: Option<Units>,
        input: Tensor,
        forward: impl Fn(&Tensor) -> candle_core::Result<Tensor> + Send + Sync + 'a,
    ) -> Box<dyn Contestant + 'a> {
        self.with_output(name, units, move || forward(&input), |out| out.flatten_all()?.to_vec1())
    }

    /// Something of this process whose result becomes numbers outside the time.
    fn with_output<T: Send + 'a>(
        &self,
        name: String,
        units: Option<Units>,
        forward: impl Fn() -> candle_core::Result<T> + Send + Sync + 'a,
        numbers: impl Fn(T) -> candle_core::Result<Vec<f32>> + Send + Sync + 'a,
    ) -> Box<dyn Contestant + 'a> {
        let (threads, slices) = (self.threads, self.slices);
        Box::new(Ours { name, units, threads, slices, workers: Workers::default(), forward, numbers })
    }

    /// A convolution every way: as in a network, from the engine's layout to the engine's layout (as PyTorch's channels
    /// last are from and to its own), and once as a Candle operation, from planes to planes.
    fn layers(
        &self,
        weight: &Tensor,
        bias: &Tensor,
        config: ConvConfig,
        input: &Tensor,
    ) -> Result<Vec<Box<dyn Contestant + 'a>>, String> {
        let mut contestants = Vec::new();
        let planes = input.flatten_all().and_then(|x| x.to_vec1::<f32>()).map_err(words)?;
        let (channels, size) = match *input.dims() {
            [_, c, h, w] => (c, [1, h, w]),
            [_, c, d, h, w] => (c, [d, h, w]),
            _ => return Err(format!("{:?} is no picture", input.dims())),
        };
        let shape = Shape { pictures: 1, channels, size };
        for way in self.ways {
            let engine = way.engine()?;
            let conv = Conv::new(&engine, weight, Some(bias), &[], config).map_err(words)?;
            let blocked = engine.from_planes(&planes, shape).map_err(words)?;
            let cells = engine.cells(&Finish::default(), &blocked, conv.entry()).map_err(words)?;
            let numbers = |out: Blocked| Ok(out.to_planes());
            contestants.push(self.with_output(way.name(), way.units(), move || conv.forward(&[&cells]), numbers));
        }
        if let Some(way) = self.ways.iter().find(|way| way.precision == Precision::F32x3) {
            let conv = Conv::new(&way.engine()?, weight, Some(bias), &[], config).map_err(words)?;
            let name = format!("{}, planes", way.name());
            contestants.push(self.ours(name, way.units(), input.clone(), move |x| {
                whole_network(x, &|planes, shape| {
                    let out = conv.forward_planes(planes, shape)?;
                    Ok((out.to_planes(), out.shape()))
                })
            }));
        }
        Ok(contestants)
    }

    /// PyTorch with these weights and this input, and the operations it counts.
    fn rivals(&self, question: &Json, weights: &StateDict, input: &Tensor) -> Result<Torches<'a>, String> {
        let name = question["case"].as_str().unwrap_or_default();
        let size = input.dims().iter().map(|n| format!("-{n}")).collect::<String>();
        let paths = ["safetensors", "npy"].map(|end| self.folder.join(format!("{name}{size}.{end}")));
        std::fs::write(&paths[0], to_safetensors(weights).map_err(words)?).map_err(words)?;
        write_npy(&paths[1], input)?;
        let mut question = question.clone();
        question["weights"] = json!(paths[0]);
        question["input"] = json!(paths[1]);
        self.asked(&question)
    }

    /// PyTorch with a question.
    fn asked(&self, question: &Json) -> Result<Torches<'a>, String> {
        let mut operations = 0.0;
        let mut contestants: Vec<Box<dyn Contestant + 'a>> = Vec::new();
        for (mode, server) in self.rivals {
            let mut question = mode.complete(question);
            question["threads"] = json!(self.threads);
            // Builds the network and counts, which runs it once.
            question["rounds"] = json!(0);
            operations = server.borrow_mut().time(&question)?.1;
            question["rounds"] = json!(self.slices);
            let units = match (mode.dtype.as_str(), mode.isa.unwrap_or(Isa::best())) {
                ("bf16", isa) => Units::of_bf16(isa),
                (_, isa) => Units::of_f32(isa),
            };
            let output = self.folder.join("torch-output.npy");
            let server = Rc::clone(server);
            contestants.push(Box::new(Torch { name: torch_name(mode), units, question, server, output }));
        }
        Ok((contestants, operations))
    }
}

type Torches<'a> = (Vec<Box<dyn Contestant + 'a>>, f64);

fn torch_name(mode: &TorchMode) -> String {
    format!("torch {}", mode.name)
}

/// A function of this process on its own pool of threads.
struct Ours<F, N> {
    name: String,
    units: Option<Units>,
    threads: usize,
    slices: usize,
    workers: Workers,
    forward: F,
    numbers: N,
}

impl<T, F, N> Contestant for Ours<F, N>
where
    T: Send,
    F: Fn() -> candle_core::Result<T> + Send + Sync,
    N: Fn(T) -> candle_core::Result<Vec<f32>> + Send + Sync,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn units(&self) -> Option<Units> {
        self.units
    }

    fn run(&mut self) -> Result<f64, String> {
        let all = || (0..self.slices).try_for_each(|_| (self.forward)().map(drop));
        let started = Instant::now();
        self.workers.run(self.threads, all).map_err(words)?.map_err(words)?;
        Ok(started.elapsed().as_secs_f64())
    }

    fn output(&mut self) -> Result<Vec<f32>, String> {
        let output = || (self.forward)().and_then(&self.numbers);
        self.workers.run(self.threads, output).map_err(words)?.map_err(words)
    }
}

/// A mode of PyTorch.
struct Torch {
    name: String,
    units: Option<Units>,
    question: Json,
    server: Rc<RefCell<TorchServer>>,
    output: PathBuf,
}

impl Contestant for Torch {
    fn name(&self) -> &str {
        &self.name
    }

    fn units(&self) -> Option<Units> {
        self.units
    }

    fn run(&mut self) -> Result<f64, String> {
        Ok(self.server.borrow_mut().time(&self.question)?.0)
    }

    fn output(&mut self) -> Result<Vec<f32>, String> {
        let mut question = self.question.clone();
        question["output"] = json!(self.output);
        self.server.borrow_mut().ask(&question)?;
        Ok(npy::<f32>(&self.output).data)
    }
}

/// Weights and bias of a convolution, by the names that PyTorch gives them.
fn layer(channels: usize, kernel: &[usize]) -> Result<StateDict, String> {
    let shape: Vec<usize> = [channels, channels].iter().chain(kernel).copied().collect();
    let scale = (3.0 / shape[1..].iter().product::<usize>() as f32).sqrt();
    let mut dict = StateDict::new();
    for (key, shape) in [("weight", shape), ("bias", vec![channels])] {
        let values = recipe::uniform(&format!("bench/{key}"), shape.iter().product());
        let values: Vec<f32> = values.into_iter().map(|x| x * scale).collect();
        let tensor = gantry_weights::Tensor::from_f32(shape, &values).map_err(words)?;
        dict.insert(key, tensor).map_err(words)?;
    }
    Ok(dict)
}

/// A slice with structure and noise in [-1, 1], and as further channels masks of 0 and 1 that follow the structure.
fn slice(channels: usize, edge: usize) -> Tensor {
    let noise = recipe::uniform("bench/slice", edge * edge);
    let mut values: Vec<f32> = Vec::with_capacity(channels * edge * edge);
    for y in 0..edge {
        for x in 0..edge {
            let [u, v] = [y, x].map(|at| at as f32 / edge as f32);
            let waves = (19.0 * u + 4.0 * v).sin() * (7.0 * v).cos() + 0.5 * (53.0 * u * v).sin();
            values.push((0.6 * waves + 0.1 * noise[y * edge + x]).clamp(-1.0, 1.0));
        }
    }
    for mask in 1..channels {
        let above = 0.3 * mask as f32 - 0.3;
        let bits: Vec<f32> = values[..edge * edge].iter().map(|&x| f32::from(u8::from(x > above))).collect();
        values.extend(bits);
    }
    Tensor::from_vec(values, (1, channels, edge, edge), &Device::Cpu).expect("as many values as pixels")
}

fn tensor(tag: &str, shape: &[usize]) -> Result<Tensor, String> {
    Tensor::from_vec(recipe::uniform(tag, shape.iter().product()), shape, &Device::Cpu).map_err(words)
}

/// Weight and bias.
fn parts(weights: StateDict) -> Result<[Tensor; 2], String> {
    let mut tensors = in_candle(weights)?;
    let [weight, bias] = ["weight", "bias"].map(|key| tensors.take(key).map_err(words));
    Ok([weight?, bias?])
}

fn in_candle(weights: StateDict) -> Result<NetworkWeights, String> {
    NetworkWeights::new(weights, ComputeDevice::Cpu).map_err(words)
}

fn write_npy(path: &Path, tensor: &Tensor) -> Result<(), String> {
    use npyz::WriterBuilder;
    let shape: Vec<u64> = tensor.dims().iter().map(|&n| n as u64).collect();
    let values: Vec<f32> = tensor.flatten_all().and_then(|t| t.to_vec1()).map_err(words)?;
    let file = BufWriter::new(File::create(path).map_err(words)?);
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(file).begin_nd().map_err(words)?;
    writer.extend(values).and_then(|()| writer.finish()).map_err(words)
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
