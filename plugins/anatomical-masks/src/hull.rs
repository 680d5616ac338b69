//! The filled convex hull of a mask.

use crate::mask::Mask;

/// A pixel as a point of the plane: x is its row, y its column.
type Point = (i64, i64);

/// The filled convex hull of the set pixels' centres, or the mask itself where they lie on one line.
///
/// A pixel on the hull's boundary belongs to it or not by the crossing rule of points-in-path over the counter-clockwise
/// corners in the (row, column) plane; the orientation decides hundreds of pixels on a real slice, so it is part of
/// the definition (`DuCoSy` specification, section 4.4).
pub fn filled_hull(mask: &Mask) -> Mask {
    let corners = corners(mask);
    if corners.len() < 3 {
        return mask.clone();
    }
    let (rows, columns) = (mask.rows(), mask.columns());
    let edges: Vec<(Point, Point)> =
        corners.iter().copied().zip(corners.iter().copied().cycle().skip(1)).take(corners.len()).collect();
    let top = corners.iter().map(|p| p.0).min().unwrap_or(0);
    let bottom = corners.iter().map(|p| p.0).max().unwrap_or(-1);

    let mut inside = vec![false; rows * columns];
    let mut crossing = Vec::with_capacity(2);
    for column in 0..columns {
        let y = column as i64;
        // An edge can toggle a pixel of this column only if it has one end on each side of the column.
        crossing.clear();
        crossing.extend(edges.iter().copied().filter(|(a, b)| (a.1 >= y) != (b.1 >= y)));
        if crossing.is_empty() {
            continue;
        }
        // Beyond the hull's rows two crossings cancel or neither counts; one row of margin keeps the exact rule.
        let first = (top - 1).max(0);
        let last = (bottom + 1).min(rows as i64 - 1);
        for x in first..=last {
            let mut is_inside = false;
            for &((ax, ay), (bx, by)) in &crossing {
                let right_of = (by - y) * (ax - bx) >= (bx - x) * (ay - by);
                is_inside ^= right_of == (by >= y);
            }
            inside[x as usize * columns + column] = is_inside;
        }
    }
    Mask::where_index(rows, columns, |i| inside[i])
}

/// Strict corners of the convex hull, counter-clockwise in the (row, column) plane, by the monotone chain.
fn corners(mask: &Mask) -> Vec<Point> {
    // Only the first and last set pixel of a row can be corners.
    let mut points: Vec<Point> = Vec::new();
    for (row, line) in mask.pixels().chunks(mask.columns().max(1)).enumerate() {
        let first = line.iter().position(|&p| p);
        let last = line.iter().rposition(|&p| p);
        if let (Some(first), Some(last)) = (first, last) {
            points.push((row as i64, first as i64));
            if last != first {
                points.push((row as i64, last as i64));
            }
        }
    }
    if points.len() < 3 {
        return points;
    }
    // Rows ascend, and columns ascend within a row: the points are sorted.
    let mut chain = half_chain(points.iter().copied());
    let mut back = half_chain(points.iter().rev().copied());
    chain.pop();
    back.pop();
    chain.append(&mut back);
    chain
}

fn half_chain(points: impl Iterator<Item = Point>) -> Vec<Point> {
    let mut chain: Vec<Point> = Vec::new();
    for p in points {
        while let [.., a, b] = chain[..] {
            if (b.0 - a.0) * (p.1 - a.1) - (b.1 - a.1) * (p.0 - a.0) > 0 {
                break;
            }
            chain.pop();
        }
        chain.push(p);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: usize, columns: usize, points: &[(usize, usize)]) -> Mask {
        Mask::where_index(rows, columns, |i| points.contains(&(i / columns, i % columns)))
    }

    #[test]
    fn a_rectangle_keeps_its_interior_and_half_its_boundary() {
        let hull = filled_hull(&of(8, 9, &[(1, 1), (1, 6), (5, 1), (5, 6)]));
        for row in 2..5 {
            for column in 2..6 {
                assert!(hull.has(row * 9 + column), "{row} {column}");
            }
        }
        assert!((0..9).all(|c| !hull.has(c) && !hull.has(6 * 9 + c) && !hull.has(7 * 9 + c)));
        assert!((0..8).all(|r| !hull.has(r * 9) && !hull.has(r * 9 + 7) && !hull.has(r * 9 + 8)));
    }

    #[test]
    fn corners_are_strict_and_counter_clockwise() {
        let mask = of(5, 5, &[(0, 0), (0, 2), (0, 4), (2, 2), (4, 0), (4, 4), (2, 0)]);
        assert_eq!(corners(&mask), [(0, 0), (4, 0), (4, 4), (0, 4)]);
    }

    #[test]
    fn lines_and_points_are_their_own_hull() {
        for points in [&[][..], &[(2, 2)], &[(1, 1), (2, 2), (3, 3)], &[(0, 1), (0, 3)]] {
            let mask = of(5, 5, points);
            assert_eq!(filled_hull(&mask), mask, "{points:?}");
        }
    }
}
