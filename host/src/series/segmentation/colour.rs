//! From screen colours to the CIELab values of Recommended Display CIELab Value (PS3.3 C.10.7.1.1), and back.

/// Linear sRGB to XYZ relative to D50 (sRGB's own D65 primaries, IEC 61966-2-1, adapted by the Bradford method).
const TO_XYZ: [[f64; 3]; 3] = [
    [0.436_074_7, 0.385_064_9, 0.143_080_4],
    [0.222_504_5, 0.716_878_6, 0.060_616_9],
    [0.013_932_2, 0.097_104_5, 0.714_173_3],
];
/// Its inverse.
const FROM_XYZ: [[f64; 3]; 3] = [
    [3.133_856_1, -1.616_866_7, -0.490_614_6],
    [-0.978_768_4, 1.916_141_5, 0.033_454_0],
    [0.071_945_3, -0.228_991_4, 1.405_242_7],
];
/// White of D50.
const WHITE: [f64; 3] = [0.964_22, 1.0, 0.825_21];
/// Where CIELab's cube root goes over into a line.
const KNEE: f64 = 6.0 / 29.0;

/// L* in 0 to 100 and a*, b* in -128 to 127, each spread over 16 bits. `rgba` is `0xRRGGBBAA`; alpha does not count.
pub(super) fn to_dicom(rgba: u32) -> [u16; 3] {
    let linear = [24, 16, 8].map(|shift| {
        let v = f64::from(rgba >> shift & 0xff) / 255.0;
        if v <= 0.040_45 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    });
    let f = |row: usize| {
        let t = product(&TO_XYZ[row], linear) / WHITE[row];
        if t > KNEE.powi(3) { t.cbrt() } else { t / (3.0 * KNEE * KNEE) + 4.0 / 29.0 }
    };
    let (fx, fy, fz) = (f(0), f(1), f(2));
    let spread = |v: f64, lo: f64, hi: f64| ((v - lo) / (hi - lo) * 65535.0).round().clamp(0.0, 65535.0) as u16;
    [
        spread(116.0 * fy - 16.0, 0.0, 100.0),
        spread(500.0 * (fx - fy), -128.0, 127.0),
        spread(200.0 * (fy - fz), -128.0, 127.0),
    ]
}

/// The nearest opaque screen colour, `0xRRGGBBff`.
pub(super) fn to_rgba(lab: [u16; 3]) -> u32 {
    let gather = |v: u16, lo: f64, hi: f64| f64::from(v) / 65535.0 * (hi - lo) + lo;
    let fy = (gather(lab[0], 0.0, 100.0) + 16.0) / 116.0;
    let fx = fy + gather(lab[1], -128.0, 127.0) / 500.0;
    let fz = fy - gather(lab[2], -128.0, 127.0) / 200.0;
    let back = |f: f64, white: f64| white * if f > KNEE { f.powi(3) } else { 3.0 * KNEE * KNEE * (f - 4.0 / 29.0) };
    let xyz = [back(fx, WHITE[0]), back(fy, WHITE[1]), back(fz, WHITE[2])];
    FROM_XYZ.iter().fold(0, |rgb, row| {
        let v = product(row, xyz).clamp(0.0, 1.0);
        let v = if v <= 0.003_130_8 { v * 12.92 } else { 1.055 * v.powf(1.0 / 2.4) - 0.055 };
        rgb << 8 | (v * 255.0).round() as u32
    }) << 8
        | 0xff
}

fn product(row: &[f64; 3], v: [f64; 3]) -> f64 {
    row[0] * v[0] + row[1] * v[1] + row[2] * v[2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_colours() {
        // L*a*b* of sRGB colours relative to D50, as ICC colour management gives them: red 54.29 80.81 69.89, white 100 0 0.
        assert_eq!(to_dicom(0xffff_ffff).map(|v| v.div_ceil(1)), to_dicom(0xffff_ff00), "alpha does not count");
        let white = to_dicom(0xffff_ffff);
        assert!(white[0] >= 65530 && white[1].abs_diff(32896) < 12 && white[2].abs_diff(32896) < 12, "{white:?}");
        assert_eq!(to_dicom(0x0000_00ff)[0], 0);
        let red = to_dicom(0xff00_00ff);
        for (found, expected) in red.into_iter().zip([54.29 / 100.0, (80.81 + 128.0) / 255.0, (69.89 + 128.0) / 255.0])
        {
            assert!((f64::from(found) / 65535.0 - expected).abs() < 2e-4, "{red:?}");
        }
    }

    #[test]
    fn colours_come_back() {
        for r in (0..=255).step_by(15) {
            for g in (0..=255).step_by(15) {
                for b in (0..=255).step_by(15) {
                    let rgba = u32::from_be_bytes([r as u8, g as u8, b as u8, 0xff]);
                    assert_eq!(to_rgba(to_dicom(rgba)), rgba, "{rgba:#x}");
                }
            }
        }
    }
}
