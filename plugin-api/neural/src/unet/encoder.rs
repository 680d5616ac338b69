//! The encoders of a U-Net: plain stages, and stages of residual blocks.

use std::rc::Rc;

use super::layer::{Layer, Layers, Run, Sizes, chain_from};
use super::plan::UnetEncoder;
use crate::blocked::{Blocked, Cells, Entry, Finish, Pool, Pooling, Shape};
use crate::conv::Conv;
use crate::engine::Engine;
use candle_core::{Result, bail};

/// All stages.
pub(super) enum Encoder {
    Plain(Vec<Vec<Layer>>),
    Residual { stem: Box<Layer>, stages: Vec<Vec<ResidualBlock>> },
}

/// What the decoder takes: skips of all stages but the last, full resolution first; and the last stage's result.
type Encoded = (Vec<Rc<Cells>>, Rc<Cells>);

impl Encoder {
    pub(super) fn new(layers: &mut Layers<'_>) -> Result<Self> {
        let plan = layers.plan;
        match &plan.encoder {
            UnetEncoder::Plain { convolutions } => {
                let mut channels = plan.channels;
                let mut stages = Vec::new();
                for (at, &count) in convolutions.iter().enumerate() {
                    let mut stage = Vec::new();
                    for conv in 0..count {
                        let stride = if conv == 0 { plan.strides[at] } else { [1; 3] };
                        let outputs = plan.features[at];
                        let size = plan.size(if conv == 0 { at.saturating_sub(1) } else { at });
                        let sizes = Sizes { inputs: &[channels], outputs, kernel: plan.kernels[at], stride, size };
                        let key = format!("encoder.stages.{at}.0.convs.{conv}");
                        stage.push(layers.layer(&key, sizes, at == 0 && conv == 0)?);
                        channels = outputs;
                    }
                    stages.push(stage);
                }
                Ok(Self::Plain(stages))
            }
            UnetEncoder::Residual { blocks, stem } => {
                let kernel = plan.kernels[0];
                let size = plan.size(0);
                let sizes = Sizes { inputs: &[plan.channels], outputs: *stem, kernel, stride: [1; 3], size };
                let first = layers.layer("encoder.stem.convs.0", sizes, true)?;
                let mut channels = *stem;
                let mut stages = Vec::new();
                for (at, &count) in blocks.iter().enumerate() {
                    let mut stage = Vec::new();
                    for block in 0..count {
                        let stride = if block == 0 { plan.strides[at] } else { [1; 3] };
                        let outputs = plan.features[at];
                        let size = plan.size(if block == 0 { at.saturating_sub(1) } else { at });
                        let sizes = Sizes { inputs: &[channels], outputs, kernel: plan.kernels[at], stride, size };
                        let key = format!("encoder.stages.{at}.blocks.{block}");
                        stage.push(ResidualBlock::new(layers, &key, sizes, plan.size(at))?);
                        channels = outputs;
                    }
                    stages.push(stage);
                }
                Ok(Self::Residual { stem: Box::new(first), stages })
            }
        }
    }

    /// Bytes of the packed weights.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Plain(stages) => stages.iter().flatten().map(|layer| layer.conv.bytes()).sum(),
            Self::Residual { stem, stages } => {
                stem.conv.bytes() + stages.iter().flatten().map(ResidualBlock::bytes).sum::<usize>()
            }
        }
    }

    /// Whether it consists of residual blocks.
    pub(super) fn residual(&self) -> bool {
        matches!(self, Self::Residual { .. })
    }

    /// Convolutions of a stage.
    pub(super) fn stage(&self, stage: usize) -> Vec<&Conv> {
        match self {
            Self::Plain(stages) => stages.get(stage).into_iter().flatten().map(|layer| &layer.conv).collect(),
            Self::Residual { stages, .. } => {
                let blocks = stages.get(stage).into_iter().flatten();
                blocks.flat_map(|block| [&block.first.conv, &block.second.conv]).collect()
            }
        }
    }

    /// Runs all stages. `skips` are what the decoder wants of each stage but the last, `below` what it wants of that.
    pub(super) fn forward(
        &self,
        run: Run<'_>,
        planes: &[f32],
        shape: Shape,
        skips: &[&Entry],
        below: &Entry,
    ) -> Result<Encoded> {
        match self {
            Self::Plain(stages) => plain(run, stages, planes, shape, skips, below),
            Self::Residual { stem, stages } => residual(run, stem, stages, planes, shape, skips, below),
        }
    }
}

/// `finish` of `raw` for the next stage and for the decoder, once where both want the same.
fn twice(
    engine: &Engine,
    finish: &Finish<'_>,
    raw: &Blocked,
    next: &Entry,
    skip: &Entry,
) -> Result<(Rc<Cells>, Rc<Cells>)> {
    let cells = Rc::new(engine.cells(finish, raw, next)?);
    let kept = if next == skip { Rc::clone(&cells) } else { Rc::new(engine.cells(finish, raw, skip)?) };
    Ok((cells, kept))
}

fn plain(
    run: Run<'_>,
    stages: &[Vec<Layer>],
    planes: &[f32],
    shape: Shape,
    skips: &[&Entry],
    below: &Entry,
) -> Result<Encoded> {
    let engine = run.engine;
    let mut kept = Vec::new();
    let mut cells: Option<Rc<Cells>> = None;
    for (at, stage) in stages.iter().enumerate() {
        let Some((first, rest)) = stage.split_first() else { bail!("U-Net: a stage without convolutions") };
        let raw = match cells.take() {
            None => first.conv.forward_planes(planes, shape)?,
            Some(cells) => run.forward(&first.conv, &[&*cells])?,
        };
        let raw = chain_from(run, first, rest, raw)?;
        let finish = rest.last().unwrap_or(first).finish(&raw)?;
        match stages.get(at + 1).and_then(|next| next.first()).zip(skips.get(at)) {
            Some((next, skip)) => {
                let (next, skip) = twice(engine, &finish, &raw, next.entry(), skip)?;
                kept.push(skip);
                cells = Some(next);
            }
            None => cells = Some(Rc::new(engine.cells(&finish, &raw, below)?)),
        }
    }
    match cells {
        Some(cells) => Ok((kept, cells)),
        None => bail!("U-Net: no stages"),
    }
}

/// Two convolutions and the way around them.
pub(super) struct ResidualBlock {
    first: Layer,
    second: Layer,
    /// Average over the stride, where there is one.
    pool: Option<Pool>,
    /// A convolution of one pixel where the channels change.
    project: Option<Layer>,
    slope: f32,
}

impl ResidualBlock {
    /// `after` is the size of its result.
    fn new(layers: &mut Layers<'_>, key: &str, sizes: Sizes<'_>, after: Option<[usize; 3]>) -> Result<Self> {
        let first = layers.layer(&format!("{key}.conv1"), sizes, false)?;
        let inner = Sizes { inputs: &[sizes.outputs], stride: [1; 3], size: after, ..sizes };
        let second = layers.layer(&format!("{key}.conv2"), inner, false)?;
        let pool = (sizes.stride != [1; 3]).then(|| Pool {
            kernel: sizes.stride,
            stride: sizes.stride,
            ..Pool::new(Pooling::Average)
        });
        let project = match sizes.inputs == [sizes.outputs] {
            true => None,
            false => {
                let key = format!("{key}.skip.{}", usize::from(pool.is_some()));
                let sizes = Sizes { kernel: [1; 3], stride: [1; 3], size: after, ..sizes };
                Some(layers.normalised(&key, sizes, false, false)?)
            }
        };
        Ok(Self { first, second, pool, project, slope: layers.plan.slope })
    }

    fn bytes(&self) -> usize {
        let project = self.project.as_ref().map_or(0, |layer| layer.conv.bytes());
        self.first.conv.bytes() + self.second.conv.bytes() + project
    }

    /// What is added to the second convolution: `trunk`, pooled and projected.
    fn around(&self, run: Run<'_>, trunk: Blocked) -> Result<Blocked> {
        let engine = run.engine;
        let mut skip = match &self.pool {
            Some(pool) => engine.pool(&trunk, pool)?,
            None => trunk,
        };
        if let Some(project) = &self.project {
            let cells = engine.cells(&Finish::default(), &skip, project.entry())?;
            drop(skip);
            let raw = run.forward(&project.conv, &[&cells])?;
            drop(cells);
            skip = engine.blocked(&project.norm(&raw)?, &raw)?;
        }
        Ok(skip)
    }

    /// The second convolution's raw result, and what is to be added to it normalised.
    fn run(&self, run: Run<'_>, cells: Rc<Cells>, trunk: Blocked) -> Result<(Blocked, Blocked)> {
        let engine = run.engine;
        let inner = run.forward(&self.first.conv, &[&*cells])?;
        drop(cells);
        let skip = self.around(run, trunk)?;
        let cells = engine.cells(&self.first.finish(&inner)?, &inner, self.second.entry())?;
        drop(inner);
        Ok((run.forward(&self.second.conv, &[&cells])?, skip))
    }
}

fn residual(
    run: Run<'_>,
    stem: &Layer,
    stages: &[Vec<ResidualBlock>],
    planes: &[f32],
    shape: Shape,
    skips: &[&Entry],
    below: &Entry,
) -> Result<Encoded> {
    let engine = run.engine;
    let blocks: Vec<(usize, &ResidualBlock)> =
        stages.iter().enumerate().flat_map(|(at, stage)| stage.iter().map(move |block| (at, block))).collect();
    let Some((_, first)) = blocks.first() else { bail!("U-Net: a stage without blocks") };
    let raw = stem.conv.forward_planes(planes, shape)?;
    let (cells, trunk) = engine.cells_and_blocked(&stem.finish(&raw)?, &raw, first.first.entry())?;
    drop(raw);
    let (mut cells, mut trunk) = (Rc::new(cells), Some(trunk));
    let mut kept = Vec::new();
    for (number, &(at, block)) in blocks.iter().enumerate() {
        let Some(before) = trunk.take() else { bail!("U-Net: a block without a trunk") };
        let (raw, skip) = block.run(run, cells, before)?;
        let finish = block.second.norm(&raw)?.adding(&skip).leaky_relu(block.slope);
        match blocks.get(number + 1) {
            None => {
                cells = Rc::new(engine.cells(&finish, &raw, below)?);
                return Ok((kept, cells));
            }
            Some((next_at, next)) => {
                let (made, out) = engine.cells_and_blocked(&finish, &raw, next.first.entry())?;
                let made = Rc::new(made);
                if *next_at != at {
                    let Some(entry) = skips.get(at) else { bail!("U-Net: a skip nobody takes") };
                    kept.push(match next.first.entry() == *entry {
                        true => Rc::clone(&made),
                        false => Rc::new(engine.cells(&Finish::default(), &out, entry)?),
                    });
                }
                (cells, trunk) = (made, Some(out));
            }
        }
    }
    bail!("U-Net: no blocks")
}
