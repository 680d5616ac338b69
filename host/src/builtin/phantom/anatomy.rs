//! One patient's anatomy: every organ as a solid of one tissue, in painting order.
//!
//! All positions are in millimetres of a standard adult (see [`super::shape`] for the frame) and are scaled as a whole
//! at the end. Numbers without a name are coordinates read off textbook cross-sections.

use super::draws::{Draws, Purpose};
use super::shape::{Cavity, LungField, Shape, Vec3, add, scaled};
use super::tissue as t;
use super::tree::{grow, scatter};

/// A solid of one tissue. Later parts cover earlier ones.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub tissue: u8,
    pub shape: Shape,
}

/// Everything that is painted, and the factor from standard to this patient's millimetres.
#[derive(Debug, Clone)]
pub(super) struct Anatomy {
    pub parts: Vec<Part>,
    pub scale: f32,
}

/// Collects parts.
struct Painter {
    parts: Vec<Part>,
}

impl Painter {
    fn paint(&mut self, tissue: u8, shape: Shape) {
        self.parts.push(Part { tissue, shape });
    }

    /// Rods through `points`, the radius going evenly from `ra` to `rb` along the line.
    fn tube(&mut self, tissue: u8, points: &[Vec3], ra: f32, rb: f32) {
        let steps = points.len().saturating_sub(1).max(1) as f32;
        for (i, pair) in points.windows(2).enumerate() {
            let radius = |k: f32| ra + (rb - ra) * k / steps;
            if let [a, b] = *pair {
                self.paint(tissue, Shape::Rod { a, b, ra: radius(i as f32), rb: radius(i as f32 + 1.0) });
            }
        }
    }
}

/// Measures of the chest that several organs depend on.
struct Frame {
    cavity: Cavity,
    fat: f32,
    /// Where the heart lies relative to the standard, and how large it is.
    heart_shift: Vec3,
    heart_size: f32,
    /// Heights of the right and left dome of the diaphragm.
    domes: [f32; 2],
    aorta: f32,
    arch: f32,
    spine_sway: f32,
}

impl Frame {
    fn draw(draws: &mut Draws) -> Self {
        let cavity = Cavity {
            rx: draws.range(111.0, 122.0),
            ry: draws.range(63.0, 70.0),
            y: -12.0,
            z_dome: -40.0,
            z_apex: draws.range(98.0, 112.0),
        };
        Self {
            cavity,
            fat: draws.range(7.0, 18.0),
            heart_shift: [draws.range(-4.0, 6.0), draws.range(-3.0, 3.0), draws.range(-5.0, 5.0)],
            heart_size: draws.range(0.9, 1.06),
            domes: [draws.range(-74.0, -58.0), draws.range(-84.0, -68.0)],
            aorta: draws.range(12.5, 16.5),
            arch: draws.range(-4.0, 5.0),
            spine_sway: draws.range(-3.0, 3.0),
        }
    }

    /// A point of the standard heart, moved to this patient's.
    fn heart(&self, p: Vec3) -> Vec3 {
        let centre = [8.0, -22.0, -22.0];
        let from_centre = [p[0] - centre[0], p[1] - centre[1], p[2] - centre[2]];
        add(add(centre, self.heart_shift), scaled(from_centre, self.heart_size))
    }

    fn heart_radii(&self, radii: Vec3, wall: f32) -> Vec3 {
        add(scaled(radii, self.heart_size), [wall; 3])
    }

    /// A chamber's blood (`wall` = 0) or its outer surface.
    fn chamber(&self, label: u8, wall: f32) -> Shape {
        let (centre, radii, axis) = match label {
            t::LEFT_VENTRICLE => ([40.0, -22.0, -34.0], [37.0, 20.0, 20.0], [0.62, -0.52, -0.59]),
            t::RIGHT_VENTRICLE => ([8.0, -46.0, -34.0], [38.0, 24.0, 18.0], [0.80, -0.25, -0.45]),
            t::LEFT_ATRIUM => ([6.0, 14.0, -8.0], [31.0, 20.0, 17.0], [1.0, 0.0, 0.0]),
            _ => ([-30.0, -22.0, -26.0], [29.0, 20.0, 21.0], [0.15, 0.1, 1.0]),
        };
        Shape::tilted_ellipsoid(self.heart(centre), self.heart_radii(radii, wall), axis)
    }

    fn dome(&self, side: usize) -> Shape {
        let x = if side == 0 { -58.0 } else { 56.0 };
        let top = self.domes.get(side).copied().unwrap_or(-70.0);
        Shape::ellipsoid([x, -6.0, top - 82.0], [78.0, 80.0, 82.0])
    }

    /// Sideways position of the spine at height `z`.
    fn spine_x(&self, z: f32) -> f32 {
        self.spine_sway * (z / 55.0).sin()
    }
}

/// Thickness of the chambers' walls in mm.
const WALLS: [(u8, f32); 4] =
    [(t::RIGHT_VENTRICLE, 4.0), (t::RIGHT_ATRIUM, 3.0), (t::LEFT_ATRIUM, 3.0), (t::LEFT_VENTRICLE, 11.0)];

impl Anatomy {
    pub(super) fn draw(seed: u64, patient: u32) -> Self {
        let mut draws = Draws::new(seed, patient, Purpose::Anatomy);
        let scale = draws.range(0.95, 1.04);
        let frame = Frame::draw(&mut draws);
        let mut painter = Painter { parts: Vec::new() };
        wall(&mut painter, &frame);
        let lungs = lung_field(&frame);
        painter.paint(t::LUNG, Shape::Lungs(lungs.clone()));
        let mut draws = Draws::new(seed, patient, Purpose::Tree);
        lung_trees(&mut painter, &mut draws, &frame, &lungs);
        abdomen(&mut painter, &frame);
        mediastinum(&mut painter, &frame);
        heart(&mut painter, &frame);
        great_vessels(&mut painter, &frame);
        skeleton(&mut painter, &frame);
        Self { parts: painter.parts, scale }
    }
}

fn wall(painter: &mut Painter, frame: &Frame) {
    let (rx, ry) = (frame.cavity.rx + 22.0, frame.cavity.ry + 34.0);
    let skin = 2.5;
    painter.paint(t::SKIN, Shape::Trunk { rx: rx + frame.fat + skin, ry: ry + 0.8 * frame.fat + skin });
    painter.paint(t::FAT, Shape::Trunk { rx: rx + frame.fat, ry: ry + 0.8 * frame.fat });
    painter.paint(t::MUSCLE, Shape::Trunk { rx, ry });
    painter.paint(t::FAT, Shape::Chest { cavity: frame.cavity, margin: 2.0 });
}

fn lung_field(frame: &Frame) -> LungField {
    let mut cut = vec![
        (Shape::Column { x: 2.0, y: 16.0, rx: 37.0, ry: 66.0, z_lo: -400.0, z_hi: 400.0 }, 0.0),
        (frame.dome(0), 0.0),
        (frame.dome(1), 0.0),
    ];
    for (label, thickness) in WALLS {
        cut.push((frame.chamber(label, thickness), 4.0));
    }
    LungField { cavity: frame.cavity, cut }
}

/// The hilum of a lung: where bronchus, artery and the two veins enter it.
struct Hilum {
    side: f32,
    bronchus: Vec3,
    artery: Vec3,
    veins: [Vec3; 2],
}

const HILA: [Hilum; 2] = [
    Hilum {
        side: -1.0,
        bronchus: [-38.0, 22.0, 18.0],
        artery: [-42.0, 4.0, 16.0],
        veins: [[-46.0, -4.0, 2.0], [-46.0, 26.0, -20.0]],
    },
    Hilum {
        side: 1.0,
        bronchus: [42.0, 24.0, 12.0],
        artery: [46.0, 8.0, 26.0],
        veins: [[50.0, -4.0, 6.0], [50.0, 28.0, -18.0]],
    },
];

fn lung_trees(painter: &mut Painter, draws: &mut Draws, frame: &Frame, lungs: &LungField) {
    let (mut airways, mut vessels) = (Vec::new(), Vec::new());
    for hilum in &HILA {
        let mut points = scatter(draws, lungs, hilum.side, 16, 18.0, |_| true);
        grow(hilum.bronchus, &mut points, 1.3, &mut airways);
        let mut points = scatter(draws, lungs, hilum.side, 230, 4.0, |_| true);
        grow(hilum.artery, &mut points, 0.62, &mut vessels);
        // The upper vein drains the front and top, the lower one the back and bottom.
        let upper = |p: Vec3| p[2] - p[1] > -2.0;
        let mut points = scatter(draws, lungs, hilum.side, 90, 4.0, upper);
        grow(hilum.veins[0], &mut points, 0.6, &mut vessels);
        let mut points = scatter(draws, lungs, hilum.side, 90, 4.0, |p| !upper(p));
        grow(hilum.veins[1], &mut points, 0.6, &mut vessels);
    }
    for vessel in vessels {
        painter.paint(t::LUNG_VESSEL, vessel);
    }
    // All walls before all lumina, so that branches open into each other.
    for airway in &airways {
        if let Shape::Rod { a, b, ra, rb } = *airway {
            painter.paint(t::AIRWAY_WALL, Shape::Rod { a, b, ra: ra + 0.9, rb: rb + 0.7 });
        }
    }
    let (trachea, mains) = central_airways(frame);
    painter.tube(t::AIRWAY_WALL, &trachea, 10.2, 10.2);
    for main in &mains {
        painter.tube(t::AIRWAY_WALL, main, 7.8, 5.4);
    }
    for airway in airways {
        painter.paint(t::AIRWAY, airway);
    }
    painter.tube(t::AIRWAY, &trachea, 8.7, 8.7);
    for main in &mains {
        painter.tube(t::AIRWAY, main, 6.5, 4.2);
    }
}

fn central_airways(frame: &Frame) -> ([Vec3; 3], [[Vec3; 3]; 2]) {
    let carina = [2.0, 21.0, 44.0 + 0.5 * frame.arch];
    let trachea = [[0.0, 14.0, 220.0], [0.0, 17.0, 95.0], carina];
    let [right, left] = &HILA;
    (trachea, [[carina, [-18.0, 23.0, 30.0], right.bronchus], [carina, [22.0, 25.0, 26.0], left.bronchus]])
}

fn abdomen(painter: &mut Painter, frame: &Frame) {
    for side in 0..2 {
        painter.paint(t::MUSCLE, frame.dome(side));
    }
    let [right, left] = frame.domes;
    painter.paint(t::LIVER, Shape::ellipsoid([-58.0, -6.0, right - 83.0], [75.0, 77.0, 80.0]));
    painter.paint(t::LIVER, Shape::tilted_ellipsoid([2.0, -30.0, right - 40.0], [52.0, 28.0, 26.0], [1.0, 0.0, 0.1]));
    painter.paint(t::FAT, Shape::ellipsoid([58.0, -6.0, left - 85.0], [74.0, 76.0, 79.0]));
    painter.paint(t::STOMACH, Shape::tilted_ellipsoid([48.0, -26.0, left - 42.0], [38.0, 26.0, 30.0], [0.5, 0.1, 0.8]));
    painter.paint(t::SPLEEN, Shape::tilted_ellipsoid([90.0, 26.0, left - 46.0], [42.0, 20.0, 24.0], [-0.2, 0.3, 0.9]));
}

fn mediastinum(painter: &mut Painter, frame: &Frame) {
    let below = frame.domes[1] - 30.0;
    painter.tube(
        t::OESOPHAGUS,
        &[[2.0, 36.0, 220.0], [4.0, 37.0, 40.0], [6.0, 37.0, -40.0], [16.0, 20.0, below]],
        5.5,
        6.0,
    );
}

fn heart(painter: &mut Painter, frame: &Frame) {
    for (label, thickness) in WALLS {
        if label == t::LEFT_VENTRICLE {
            continue;
        }
        painter.paint(t::MYOCARDIUM, frame.chamber(label, thickness));
    }
    for (label, _) in WALLS {
        if label != t::LEFT_VENTRICLE {
            painter.paint(label, frame.chamber(label, 0.0));
        }
    }
    // The left ventricle last: its thick wall is the septum.
    for (label, thickness) in WALLS {
        if label == t::LEFT_VENTRICLE {
            painter.paint(t::MYOCARDIUM, frame.chamber(label, thickness));
            painter.paint(label, frame.chamber(label, 0.0));
        }
    }
}

fn great_vessels(painter: &mut Painter, frame: &Frame) {
    let h = |p: Vec3| frame.heart(p);
    let up = |p: Vec3| add(p, [0.0, 0.0, frame.arch]);
    let r = frame.aorta;

    painter.tube(t::VENA_CAVA, &[[-36.0, -10.0, 200.0], [-37.0, -14.0, 60.0], h([-34.0, -16.0, -4.0])], 9.0, 10.0);
    painter.tube(
        t::VENA_CAVA,
        &[[-36.0, -12.0, 92.0], [-4.0, -32.0, 90.0], [30.0, -26.0, 112.0], [42.0, -18.0, 200.0]],
        6.5,
        6.0,
    );
    painter.tube(t::VENA_CAVA, &[h([-28.0, -8.0, -48.0]), [-24.0, 8.0, -90.0], [-20.0, 22.0, -260.0]], 12.0, 12.0);

    let atrium = [h([-20.0, 8.0, 0.0]), h([-20.0, 20.0, -14.0]), h([32.0, 8.0, 2.0]), h([32.0, 20.0, -12.0])];
    let ends = [HILA[0].veins[0], HILA[0].veins[1], HILA[1].veins[0], HILA[1].veins[1]];
    for (from, to) in atrium.into_iter().zip(ends) {
        painter.tube(t::PULMONARY_VEIN, &[from, to], 7.0, 5.5);
    }

    let fork = [18.0, -18.0, 30.0];
    painter.tube(t::PULMONARY_ARTERY, &[fork, [34.0, -6.0, 31.0], HILA[1].artery], 11.0, 7.0);
    painter.tube(t::PULMONARY_ARTERY, &[fork, [2.0, 0.0, 27.0], [-18.0, 5.0, 22.0], HILA[0].artery], 10.5, 7.0);
    painter.tube(t::PULMONARY_ARTERY, &[h([14.0, -46.0, -14.0]), h([18.0, -42.0, 8.0]), fork], 13.5, 12.0);

    let arch =
        [[-13.0, -24.0, 48.0], [0.0, -16.0, 63.0], [17.0, 0.0, 68.0], [27.0, 20.0, 64.0], [28.0, 36.0, 50.0]].map(up);
    let mut aorta = vec![h([9.0, -12.0, -16.0]), h([-4.0, -20.0, 4.0]), [-16.0, -26.0, 28.0]];
    aorta.extend(arch);
    painter.tube(t::AORTA, &aorta, r, 0.86 * r);
    painter.tube(
        t::AORTA,
        &[arch[4], [26.0, 38.0, 10.0], [23.0, 40.0, -60.0], [14.0, 38.0, -120.0], [6.0, 34.0, -260.0]],
        0.86 * r,
        0.74 * r,
    );
    painter.tube(t::AORTA, &[arch[1], up([-8.0, -10.0, 96.0]), [-20.0, 0.0, 200.0]], 6.5, 5.0);
    painter.tube(t::AORTA, &[arch[2], up([15.0, -2.0, 100.0]), [16.0, 4.0, 200.0]], 4.5, 4.0);
    painter.tube(t::AORTA, &[arch[3], up([26.0, 16.0, 100.0]), [34.0, 12.0, 200.0]], 5.0, 4.5);
}

fn skeleton(painter: &mut Painter, frame: &Frame) {
    let chest = frame.cavity;
    let back = chest.y + chest.ry;
    let canal = back + 22.0;
    // Vertebrae with discs, every 24 mm.
    for level in -12..10_i32 {
        let z = level as f32 * 24.0 + 6.0;
        let x = frame.spine_x(z);
        let column =
            |rx: f32, ry: f32, half: f32, y: f32| Shape::Column { x, y, rx, ry, z_lo: z - half, z_hi: z + half };
        painter.paint(t::DISC, Shape::Column { x, y: back, rx: 16.5, ry: 13.5, z_lo: z + 9.0, z_hi: z + 15.0 });
        painter.paint(t::DENSE_BONE, column(18.0, 14.5, 9.6, back));
        painter.paint(t::VERTEBRA, column(16.2, 12.7, 8.2, back));
        painter.paint(t::DENSE_BONE, column(14.0, 12.5, 7.5, canal));
        for side in [-1.0, 1.0] {
            let root = [x + side * 12.0, canal - 3.0, z];
            painter.paint(
                t::DENSE_BONE,
                Shape::Rod { a: root, b: [x + side * 35.0, canal - 7.0, z + 2.0], ra: 4.5, rb: 3.5 },
            );
        }
        painter.paint(
            t::DENSE_BONE,
            Shape::tilted_ellipsoid([x, canal + 14.0, z - 5.0], [10.0, 3.2, 6.0], [0.0, 1.0, -0.5]),
        );
    }
    for step in -30..20_i32 {
        let z = |k: i32| k as f32 * 10.0;
        let at = |k: i32| [frame.spine_x(z(k)), canal, z(k)];
        painter.paint(t::SPINAL_CANAL, Shape::Rod { a: at(step), b: at(step + 1), ra: 8.5, rb: 8.5 });
    }
    let front = chest.y - chest.ry - 10.0;
    painter.paint(t::STERNUM, Shape::Column { x: 0.0, y: front, rx: 18.0, ry: 6.5, z_lo: -55.0, z_hi: 62.0 });
    for rib in 0..12_u8 {
        for side in [-1.0, 1.0] {
            ribs(painter, frame, rib, side);
        }
    }
}

/// One rib: from beside the spine around the chest, falling towards the front, where cartilage takes over.
fn ribs(painter: &mut Painter, frame: &Frame, rib: u8, side: f32) {
    let chest = frame.cavity;
    let head = 96.0 - 19.0 * f32::from(rib);
    let fall = (30.0 + 8.0 * f32::from(rib)).min(62.0);
    // The last two ribs end in the flank; the others reach the sternum through cartilage.
    let (reach, bone_until) = if rib >= 10 { (0.6, 0.6) } else { (1.0, 0.76) };
    let point = |u: f32| {
        let angle = (17.0 + 147.0 * u).to_radians();
        let z = head - fall * u * (1.6 - 0.6 * u);
        // The wall follows the cavity, but never closes over the apex.
        let s = chest.scale_at(z).max(0.5);
        [side * (chest.rx * s + 8.5) * angle.sin(), chest.y + (chest.ry * s + 8.5) * angle.cos(), z]
    };
    let steps = 24_u8;
    for step in 0..steps {
        let (u, v) = (f32::from(step) / f32::from(steps), f32::from(step + 1) / f32::from(steps));
        if v > reach {
            break;
        }
        let tissue = if v <= bone_until { t::RIB } else { t::CARTILAGE };
        painter.paint(tissue, Shape::Rod { a: point(u), b: point(v), ra: 4.8, rb: 4.8 });
    }
}
