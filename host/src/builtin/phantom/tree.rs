//! Branching trees of vessels and airways that fill a lung.
//!
//! A tree starts at the hilum and grows towards a set of points scattered through the lung: a branch goes part of the
//! way to the middle of its points, the points are then divided along their longest extent, and each half is served by
//! one daughter. The radius follows the number of points served: r = leaf * n^(1/2.7), so that r^2.7 is shared out
//! among the daughters (Murray's law with the exponent measured in pulmonary arteries).

use super::draws::Draws;
use super::shape::{LungField, Shape, Vec3, add, scaled, sub};

/// Draws `count` points inside the lung on one side, at least `margin_mm` from its surface and with `keep` true.
///
/// `side` is -1 for the right lung (x < 0) and 1 for the left. Fewer points come back only if the lung is too small to
/// hold them.
pub(super) fn scatter(
    draws: &mut Draws,
    lungs: &LungField,
    side: f32,
    count: usize,
    margin_mm: f32,
    keep: impl Fn(Vec3) -> bool,
) -> Vec<Vec3> {
    let mut points = Vec::with_capacity(count);
    for _ in 0..count * 60 {
        if points.len() == count {
            break;
        }
        let p = [
            side * draws.range(4.0, lungs.cavity.rx),
            lungs.cavity.y + draws.range(-lungs.cavity.ry, lungs.cavity.ry),
            draws.range(lungs.cavity.z_dome - 90.0, lungs.cavity.z_apex),
        ];
        if keep(p) && lungs.distance(p) < -margin_mm {
            points.push(p);
        }
    }
    points
}

/// Grows a tree from `start` to every one of `points`; `leaf_mm` is the radius of a branch that serves one point.
pub(super) fn grow(start: Vec3, points: &mut [Vec3], leaf_mm: f32, out: &mut Vec<Shape>) {
    let radius = |n: usize| leaf_mm * (n as f32).powf(1.0 / 2.7);
    match points {
        [] => {}
        [point] => out.push(Shape::Rod { a: start, b: *point, ra: leaf_mm, rb: 0.7 * leaf_mm }),
        _ => {
            let n = points.len();
            let middle = scaled(points.iter().fold([0.0; 3], |sum, p| add(sum, *p)), 1.0 / n as f32);
            // Long enough to reach the region, short enough that daughters still spread out.
            let end = add(start, scaled(sub(middle, start), 0.42));
            out.push(Shape::Rod { a: start, b: end, ra: radius(n), rb: 0.92 * radius(n) });
            let extent = |axis: usize| {
                let (lo, hi) = points
                    .iter()
                    .fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), p| (lo.min(p[axis]), hi.max(p[axis])));
                hi - lo
            };
            let extents = [extent(0), extent(1), extent(2)];
            let axis = if extents[0] >= extents[1] && extents[0] >= extents[2] {
                0
            } else if extents[1] >= extents[2] {
                1
            } else {
                2
            };
            points.sort_by(|p, q| p[axis].total_cmp(&q[axis]));
            let (low, high) = points.split_at_mut(n / 2);
            grow(end, low, leaf_mm, out);
            grow(end, high, leaf_mm, out);
        }
    }
}
