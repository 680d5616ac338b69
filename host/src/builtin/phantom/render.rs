//! Paints an anatomy into slices.
//!
//! Parts are painted in order. In each pixel a part covers what is below it by the fraction of the pixel it fills,
//! estimated from its signed distance, so borders have partial volume as in a real scan. Thick slices are the mean of
//! several thin sheets. Labels are decided on the middle sheet, by which part fills more than half of the pixel.

use super::anatomy::Anatomy;
use super::draws::{Draws, Purpose};
use super::tissue::{AIR, LUNG, TISSUES};
use super::{ChestPhantom, PhantomGrid};

/// Standard deviation in HU of the noise in soft tissue.
const NOISE_HU: f32 = 9.0;
/// Noise is this much weaker in air outside the body and in airways.
const AIR_NOISE: f32 = 0.6;
/// Amplitude in HU of slow changes within a tissue, in lung and elsewhere (none in air).
const TEXTURE_HU: [f32; 2] = [9.0, 3.0];

/// Slow waves in space that make a tissue uneven; their mean over a few centimetres is zero.
struct Texture {
    waves: [[f32; 4]; 4],
}

impl Texture {
    fn draw(seed: u64, patient: u32) -> Self {
        let mut draws = Draws::new(seed, patient, Purpose::Texture);
        let waves = [0.0; 4].map(|_: f32| {
            let mut k = || draws.range(0.08, 0.28) * if draws.range(0.0, 1.0) < 0.5 { -1.0 } else { 1.0 };
            let (x, y, z) = (k(), k(), k());
            [x, y, z, draws.range(0.0, std::f32::consts::TAU)]
        });
        Self { waves }
    }

    /// In -1..=1.
    fn at(&self, x: f32, y: f32, z: f32) -> f32 {
        0.25 * self.waves.iter().map(|w| (w[0] * x + w[1] * y + w[2] * z + w[3]).sin()).sum::<f32>()
    }
}

/// One thin sheet of the phantom: attenuation in HU and labels, both [y, x].
struct Sheet {
    hu: Vec<f32>,
    labels: Vec<u8>,
}

fn paint(anatomy: &Anatomy, grid: &PhantomGrid, z_mm: f32, contrast: bool) -> Sheet {
    let (rows, columns) = (grid.rows, grid.columns);
    let mut hu = vec![TISSUES[usize::from(AIR)].hu(contrast); rows * columns];
    let mut labels = vec![AIR; rows * columns];
    let [_, sy, sx] = grid.spacing_mm.map(|s| s as f32);
    let pixel = 0.5 * (sx + sy);
    let scale = anatomy.scale;
    let z = z_mm / scale;
    // First and last pixel whose centre can lie within half a pixel of [lo, hi] (standard mm).
    let span = |lo: f32, hi: f32, count: usize, spacing: f32| {
        let middle = (count as f32 - 1.0) / 2.0;
        let first = ((lo * scale - pixel) / spacing + middle).floor().max(0.0);
        let last = ((hi * scale + pixel) / spacing + middle).ceil().min(count as f32 - 1.0);
        (first as usize, if last < first { None } else { Some(last as usize) })
    };
    for part in &anatomy.parts {
        let [lo, hi] = part.shape.bounds();
        let reach = pixel / scale;
        if z < lo[2] - reach || z > hi[2] + reach {
            continue;
        }
        let Some(target) = TISSUES.get(usize::from(part.tissue)).map(|tissue| tissue.hu(contrast)) else { continue };
        let strength = (2.0 * part.shape.thinnest_mm() * scale / pixel).min(1.0);
        let (y0, Some(y1)) = span(lo[1], hi[1], rows, sy) else { continue };
        let (x0, Some(x1)) = span(lo[0], hi[0], columns, sx) else { continue };
        for y in y0..=y1 {
            let y_mm = grid.centred(y, rows, sy) / scale;
            let row = y * columns;
            let pixels = hu[row + x0..=row + x1].iter_mut().zip(&mut labels[row + x0..=row + x1]);
            for (x, (value, label)) in (x0..).zip(pixels) {
                let x_mm = grid.centred(x, columns, sx) / scale;
                let distance = part.shape.distance([x_mm, y_mm, z]) * scale;
                let fill = (0.5 - distance / pixel).clamp(0.0, 1.0) * strength;
                if fill > 0.0 {
                    *value += fill * (target - *value);
                    if fill >= 0.5 {
                        *label = part.tissue;
                    }
                }
            }
        }
    }
    Sheet { hu, labels }
}

/// Thin sheets per slice: one for every 2.5 mm, so that slanted vessels blur as in a thick slice.
fn sheets(grid: &PhantomGrid) -> usize {
    ((grid.spacing_mm[0] / 2.5).round() as usize).clamp(1, 4)
}

/// Labels [y, x] of slice `z`.
pub(super) fn labels(phantom: &ChestPhantom, grid: &PhantomGrid, z: usize) -> Vec<u8> {
    let sz = grid.spacing_mm[0] as f32;
    paint(&phantom.anatomy, grid, grid.centred(z, grid.slices, sz), false).labels
}

/// Hounsfield values [y, x] of slice `z`, rounded and never below -1024.
pub(super) fn slice(phantom: &ChestPhantom, contrast: bool, grid: &PhantomGrid, z: usize) -> Vec<i16> {
    let sz = grid.spacing_mm[0] as f32;
    let z_mm = grid.centred(z, grid.slices, sz);
    let count = sheets(grid);
    let mut hu = vec![0.0_f32; grid.rows * grid.columns];
    let mut labels = Vec::new();
    for sheet in 0..count {
        let offset = ((sheet as f32 + 0.5) / count as f32 - 0.5) * sz;
        let painted = paint(&phantom.anatomy, grid, z_mm + offset, contrast);
        for (sum, value) in hu.iter_mut().zip(&painted.hu) {
            *sum += value / count as f32;
        }
        if sheet == count / 2 {
            labels = painted.labels;
        }
    }
    let texture = Texture::draw(phantom.seed, phantom.patient);
    let noise = noise(phantom, contrast, grid, z);
    let [_, sy, sx] = grid.spacing_mm.map(|s| s as f32);
    let mut out = Vec::with_capacity(hu.len());
    for (i, ((value, label), noise)) in hu.iter().zip(&labels).zip(&noise).enumerate() {
        let (y, x) = (i / grid.columns, i % grid.columns);
        let wave = texture.at(grid.centred(x, grid.columns, sx), grid.centred(y, grid.rows, sy), z_mm);
        let (amplitude, strength) = match *label {
            LUNG => (TEXTURE_HU[0], 1.0),
            _ if *value < -950.0 => (0.0, AIR_NOISE),
            _ => (TEXTURE_HU[1], 1.0),
        };
        out.push((value + amplitude * wave + strength * noise).round().clamp(-1024.0, 3071.0) as i16);
    }
    out
}

/// Noise [y, x] in HU with the grain of a soft kernel: white noise, blurred 3 x 3 by (1 2 1)/4 in each direction and
/// brought back to its standard deviation. The values depend on the voxel's index alone.
fn noise(phantom: &ChestPhantom, contrast: bool, grid: &PhantomGrid, z: usize) -> Vec<f32> {
    let purpose = if contrast { Purpose::ContrastNoise } else { Purpose::PlainNoise };
    let draws = Draws::new(phantom.seed, phantom.patient, purpose);
    let (rows, columns) = (grid.rows + 2, grid.columns + 2);
    let mut white = Vec::with_capacity(rows * columns);
    for y in 0..rows {
        for x in 0..columns {
            white.push(draws.normal_at(((z as u64) << 40) | ((y as u64) << 20) | x as u64));
        }
    }
    let across: Vec<f32> = white
        .chunks_exact(columns)
        .flat_map(|row| row.windows(3).map(|w| 0.25 * w[0] + 0.5 * w[1] + 0.25 * w[2]))
        .collect();
    // The kernel (1 2 1)/4 has the energy 3/8 in each direction, so the blurred noise has standard deviation 3/8.
    let gain = NOISE_HU * 8.0 / 3.0;
    let mut out = Vec::with_capacity(grid.rows * grid.columns);
    for y in 0..grid.rows {
        let row = |k: usize| &across[(y + k) * grid.columns..(y + k + 1) * grid.columns];
        for ((a, b), c) in row(0).iter().zip(row(1)).zip(row(2)) {
            out.push(gain * (0.25 * a + 0.5 * b + 0.25 * c));
        }
    }
    out
}
