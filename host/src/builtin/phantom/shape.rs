//! Solid shapes in millimetres, each with an approximate signed distance (negative inside) and a bounding box.
//!
//! Points are `[x, y, z]` in the phantom's own frame: x towards the patient's left, y towards the back, z towards the
//! head (LPS), origin in the middle of the chest.

/// A point or a vector `[x, y, z]`.
pub(super) type Vec3 = [f32; 3];

pub(super) fn add(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

pub(super) fn sub(a: Vec3, b: Vec3) -> Vec3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

pub(super) fn scaled(a: Vec3, factor: f32) -> Vec3 {
    [a[0] * factor, a[1] * factor, a[2] * factor]
}

pub(super) fn dot(a: Vec3, b: Vec3) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(super) fn length(a: Vec3) -> f32 {
    dot(a, a).sqrt()
}

pub(super) fn unit(a: Vec3) -> Vec3 {
    scaled(a, 1.0 / length(a).max(1e-6))
}

/// Distance to an axis-aligned ellipsoid, exact at first order near the surface: k0 (k0 - 1) / k1 with
/// k0 = |p/r| and k1 = |p/r^2|.
fn ellipsoid_distance(p: Vec3, radii: Vec3) -> f32 {
    let q = [p[0] / radii[0], p[1] / radii[1], p[2] / radii[2]];
    let k0 = length(q);
    let k1 = length([q[0] / radii[0], q[1] / radii[1], q[2] / radii[2]]);
    if k1 < 1e-6 { -radii[0].min(radii[1]).min(radii[2]) } else { k0 * (k0 - 1.0) / k1 }
}

/// The same in two dimensions.
pub(super) fn ellipse_distance(x: f32, y: f32, rx: f32, ry: f32) -> f32 {
    let (qx, qy) = (x / rx, y / ry);
    let k0 = (qx * qx + qy * qy).sqrt();
    let k1 = ((qx / rx).powi(2) + (qy / ry).powi(2)).sqrt();
    if k1 < 1e-6 { -rx.min(ry) } else { k0 * (k0 - 1.0) / k1 }
}

/// The chest wall's inner surface and, scaled, the pleural cavity: elliptic in cross-section, unchanging below
/// `z_dome`, closing to an apex at `z_apex`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cavity {
    pub rx: f32,
    pub ry: f32,
    pub y: f32,
    pub z_dome: f32,
    pub z_apex: f32,
}

impl Cavity {
    /// The factor by which the cross-section at height `z` is smaller than the full one, 0.05..=1.
    pub(super) fn scale_at(&self, z: f32) -> f32 {
        let up = ((z - self.z_dome) / (self.z_apex - self.z_dome)).clamp(0.0, 1.0);
        (1.0 - up * up * up.sqrt()).sqrt().max(0.05)
    }

    fn distance(&self, p: Vec3, margin: f32) -> f32 {
        let s = self.scale_at(p[2]);
        let side =
            ellipse_distance(p[0], p[1] - self.y, (self.rx * s + margin).max(0.5), (self.ry * s + margin).max(0.5));
        side.max(p[2] - self.z_apex - margin)
    }
}

/// A solid.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// The trunk: an elliptic column that narrows to the neck. `rx`, `ry` are the half axes at the chest.
    Trunk { rx: f32, ry: f32 },
    /// The cavity of the chest, grown by `margin`.
    Chest { cavity: Cavity, margin: f32 },
    /// Both lungs: the cavity without mediastinum, heart and the domes of the diaphragm.
    Lungs(LungField),
    /// An ellipsoid; `axes` are orthonormal, `radii` belong to them in order.
    Ellipsoid { centre: Vec3, radii: Vec3, axes: [Vec3; 3] },
    /// A rod with round ends whose radius goes evenly from `ra` at `a` to `rb` at `b`.
    Rod { a: Vec3, b: Vec3, ra: f32, rb: f32 },
    /// An upright elliptic cylinder around (x, y).
    Column { x: f32, y: f32, rx: f32, ry: f32, z_lo: f32, z_hi: f32 },
}

/// The space filled by lung, as a difference of simple solids.
#[derive(Debug, Clone)]
pub(super) struct LungField {
    pub cavity: Cavity,
    /// Solids cut out of the cavity, with the thickness of tissue that stays around each.
    pub cut: Vec<(Shape, f32)>,
}

impl LungField {
    pub(super) fn distance(&self, p: Vec3) -> f32 {
        // Lungs do not meet in the middle: 4 mm of fat in front of the heart and behind the sternum.
        let mut distance = self.cavity.distance(p, 0.0).max(4.0 - p[0].abs());
        for (shape, margin) in &self.cut {
            distance = distance.max(margin - shape.distance(p));
        }
        distance
    }
}

/// How much the trunk narrows at height `z`: 1 at the chest, 0.45 at the neck.
fn trunk_scale(z: f32) -> f32 {
    let t = ((z - 105.0) / 55.0).clamp(0.0, 1.0);
    1.0 - 0.55 * t * t * (3.0 - 2.0 * t)
}

impl Shape {
    /// An ellipsoid along the coordinate axes.
    pub(super) fn ellipsoid(centre: Vec3, radii: Vec3) -> Self {
        Shape::Ellipsoid { centre, radii, axes: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]] }
    }

    /// An ellipsoid whose first radius lies along `long_axis`.
    pub(super) fn tilted_ellipsoid(centre: Vec3, radii: Vec3, long_axis: Vec3) -> Self {
        let first = unit(long_axis);
        let helper = if first[2].abs() < 0.9 { [0.0, 0.0, 1.0] } else { [0.0, 1.0, 0.0] };
        let second = unit(cross(helper, first));
        Shape::Ellipsoid { centre, radii, axes: [first, second, cross(first, second)] }
    }

    /// Signed distance in mm from `p` to the surface, negative inside.
    pub(super) fn distance(&self, p: Vec3) -> f32 {
        match self {
            Shape::Trunk { rx, ry } => {
                let s = trunk_scale(p[2]);
                ellipse_distance(p[0], p[1], rx * s, ry * s)
            }
            Shape::Chest { cavity, margin } => cavity.distance(p, *margin),
            Shape::Lungs(field) => field.distance(p),
            Shape::Ellipsoid { centre, radii, axes } => {
                let q = sub(p, *centre);
                ellipsoid_distance([dot(q, axes[0]), dot(q, axes[1]), dot(q, axes[2])], *radii)
            }
            Shape::Rod { a, b, ra, rb } => {
                let along = sub(*b, *a);
                let t = (dot(sub(p, *a), along) / dot(along, along).max(1e-6)).clamp(0.0, 1.0);
                length(sub(p, add(*a, scaled(along, t)))) - (ra + (rb - ra) * t)
            }
            Shape::Column { x, y, rx, ry, z_lo, z_hi } => {
                ellipse_distance(p[0] - x, p[1] - y, *rx, *ry).max(z_lo - p[2]).max(p[2] - z_hi)
            }
        }
    }

    /// Lowest and highest corner of a box that holds the shape; infinite where it has no end.
    pub(super) fn bounds(&self) -> [Vec3; 2] {
        let inf = f32::INFINITY;
        match self {
            Shape::Trunk { rx, ry } => [[-rx, -ry, -inf], [*rx, *ry, inf]],
            Shape::Chest { cavity: c, margin: m } => {
                [[-c.rx - m, c.y - c.ry - m, -inf], [c.rx + m, c.y + c.ry + m, c.z_apex + m]]
            }
            Shape::Lungs(LungField { cavity: c, .. }) => [[-c.rx, c.y - c.ry, -inf], [c.rx, c.y + c.ry, c.z_apex]],
            Shape::Ellipsoid { centre, radii, axes } => {
                let mut half = [0.0; 3];
                for (axis, half) in half.iter_mut().enumerate() {
                    *half = (0..3).map(|k| (radii[k] * axes[k][axis]).powi(2)).sum::<f32>().sqrt();
                }
                [sub(*centre, half), add(*centre, half)]
            }
            Shape::Rod { a, b, ra, rb } => {
                let r = ra.max(*rb);
                [0, 1].map(|end| [0, 1, 2].map(|k| if end == 0 { a[k].min(b[k]) - r } else { a[k].max(b[k]) + r }))
            }
            Shape::Column { x, y, rx, ry, z_lo, z_hi } => [[x - rx, y - ry, *z_lo], [x + rx, y + ry, *z_hi]],
        }
    }

    /// Half the width of the shape where it is thinnest; decides how faint a thing smaller than a voxel appears.
    pub(super) fn thinnest_mm(&self) -> f32 {
        match self {
            Shape::Rod { ra, rb, .. } => ra.min(*rb),
            _ => f32::INFINITY,
        }
    }
}

fn cross(a: Vec3, b: Vec3) -> Vec3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_negative_inside_zero_on_the_surface_and_positive_outside() {
        let shapes = [
            (Shape::ellipsoid([1.0, 2.0, 3.0], [10.0, 20.0, 30.0]), [1.0, 2.0, 3.0], [11.0, 2.0, 3.0]),
            (Shape::tilted_ellipsoid([0.0; 3], [30.0, 10.0, 10.0], [0.0, 1.0, 0.0]), [0.0; 3], [0.0, 30.0, 0.0]),
            (Shape::Rod { a: [0.0; 3], b: [0.0, 0.0, 50.0], ra: 4.0, rb: 2.0 }, [0.0, 0.0, 25.0], [3.0, 0.0, 25.0]),
            (
                Shape::Column { x: 5.0, y: 0.0, rx: 3.0, ry: 4.0, z_lo: 0.0, z_hi: 9.0 },
                [5.0, 0.0, 4.0],
                [5.0, 4.0, 4.0],
            ),
        ];
        for (shape, inside, surface) in shapes {
            assert!(shape.distance(inside) < -1.0, "{shape:?}");
            assert!(shape.distance(surface).abs() < 1e-3, "{shape:?}");
            assert!(shape.distance([200.0, 200.0, 200.0]) > 50.0, "{shape:?}");
            let [lo, hi] = shape.bounds();
            for k in 0..3 {
                assert!(lo[k] <= surface[k] + 1e-3 && surface[k] <= hi[k] + 1e-3, "{shape:?}");
            }
        }
    }
}
