//! What is found and what is not: text drawn into slices, slices without text.

use super::*;
use crate::series::{blank, guard, header};

/// Letters and digits of 5 x 7 pixels, a row a number, the leftmost pixel the highest of its five bits.
const FONT: [(char, [u8; 7]); 24] = [
    ('0', [14, 17, 19, 21, 25, 17, 14]),
    ('1', [4, 12, 4, 4, 4, 4, 14]),
    ('2', [14, 17, 1, 6, 8, 16, 31]),
    ('3', [31, 2, 4, 2, 1, 17, 14]),
    ('4', [2, 6, 10, 18, 31, 2, 2]),
    ('5', [31, 16, 30, 1, 1, 17, 14]),
    ('6', [6, 8, 16, 30, 17, 17, 14]),
    ('7', [31, 1, 2, 4, 8, 8, 8]),
    ('8', [14, 17, 17, 14, 17, 17, 14]),
    ('9', [14, 17, 17, 15, 1, 2, 12]),
    ('A', [14, 17, 17, 31, 17, 17, 17]),
    ('D', [30, 17, 17, 17, 17, 17, 30]),
    ('E', [31, 16, 16, 30, 16, 16, 31]),
    ('H', [17, 17, 17, 31, 17, 17, 17]),
    ('I', [14, 4, 4, 4, 4, 4, 14]),
    ('J', [7, 2, 2, 2, 2, 18, 12]),
    ('L', [16, 16, 16, 16, 16, 16, 31]),
    ('M', [17, 27, 21, 21, 17, 17, 17]),
    ('N', [17, 25, 21, 19, 17, 17, 17]),
    ('O', [14, 17, 17, 17, 17, 17, 14]),
    ('R', [30, 17, 17, 30, 20, 18, 17]),
    ('S', [15, 16, 16, 14, 1, 1, 30]),
    ('T', [31, 4, 4, 4, 4, 4, 4]),
    ('-', [0, 0, 0, 31, 0, 0, 0]),
];
const LINES: [&str; 6] = ["DOE JOHN", "1957-03-12", "ID 1234567", "LEMAITRE ANNA", "068-A M 1957", "00987 SMITH"];

struct Image {
    rows: usize,
    columns: usize,
    values: Vec<i32>,
}

/// Numbers without pattern from 0 to 1 (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, n: usize) -> usize {
        ((self.roll() * n as f64) as usize).min(n - 1)
    }

    /// Bell-shaped around 0, deviation 1.
    fn bell(&mut self) -> f64 {
        (0..12).map(|_| self.roll()).sum::<f64>() - 6.0
    }
}

/// A body in air with organs, vessels, bones and noise, drawn anew for each seed; Hounsfield units.
fn body(dice: &mut Dice) -> Image {
    let (rows, columns) = (512, 512);
    let mut shapes = vec![(256.0, 262.0, 205.0, 150.0, 40.0)];
    for _ in 0..60 {
        let (x, y) = (120.0 + 270.0 * dice.roll(), 160.0 + 200.0 * dice.roll());
        let size = 2.0 + 40.0 * dice.roll().powi(3);
        let value = [-850.0, -90.0, 60.0, 180.0, 320.0, 900.0][dice.below(6)];
        shapes.push((x, y, size, size * (0.4 + dice.roll()), value));
    }
    let mut values = Vec::with_capacity(rows * columns);
    for y in 0..rows {
        for x in 0..columns {
            let inside = |s: &&(f64, f64, f64, f64, f64)| {
                ((x as f64 - s.0) / s.2).powi(2) + ((y as f64 - s.1) / s.3).powi(2) < 1.0
            };
            let value = shapes.iter().rev().find(inside).map_or(-1000.0, |s| s.4);
            values.push((value + 14.0 * dice.bell()) as i32);
        }
    }
    Image { rows, columns, values }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Style {
    White,
    BlackOnWhite,
    Grey,
}

/// Draws a line and gives where it lies.
fn draw(image: &mut Image, text: &str, scale: usize, at: (usize, usize), style: Style, value: i32) -> Rectangle {
    let (low, high) = (image.values.iter().min().copied().unwrap(), image.values.iter().max().copied().unwrap());
    let (width, height) = ((text.len() * 6 - 1) * scale, 7 * scale);
    let (x0, y0) = at;
    let mut put = |x: usize, y: usize, v: i32| image.values[y * image.columns + x] = v;
    if style == Style::BlackOnWhite {
        for y in y0.saturating_sub(3)..(y0 + height + 3).min(image.rows) {
            for x in x0.saturating_sub(3)..(x0 + width + 3).min(image.columns) {
                put(x, y, high);
            }
        }
    }
    let ink = match style {
        Style::White => high,
        Style::BlackOnWhite => low,
        Style::Grey => value,
    };
    for (n, letter) in text.chars().enumerate() {
        let Some((_, glyph)) = FONT.iter().find(|(c, _)| *c == letter) else { continue };
        for (y, bits) in glyph.iter().enumerate() {
            for x in (0..5).filter(|x| bits >> (4 - x) & 1 == 1) {
                for (dy, dx) in (0..scale * scale).map(|i| (i / scale, i % scale)) {
                    put(x0 + (n * 6 + x) * scale + dx, y0 + y * scale + dy, ink);
                }
            }
        }
    }
    Rectangle { x: x0, y: y0, width, height }
}

/// The part of `line` that reports cover.
fn covered(line: Rectangle, found: &[TextLike]) -> f64 {
    let inside = |x: usize, y: usize| {
        found
            .iter()
            .map(|f| f.rectangle)
            .any(|r| (r.x..r.x + r.width).contains(&x) && (r.y..r.y + r.height).contains(&y))
    };
    let cells = (line.y..line.y + line.height).flat_map(|y| (line.x..line.x + line.width).map(move |x| (x, y)));
    cells.filter(|&(x, y)| inside(x, y)).count() as f64 / (line.width * line.height) as f64
}

/// Draws `tries` lines of one kind into images of `ground`; gives how many were found.
fn rate(
    dice: &mut Dice,
    style: Style,
    scale: usize,
    tries: usize,
    ground: &mut dyn FnMut(&mut Dice) -> Image,
) -> usize {
    let mut hits = 0;
    for _ in 0..tries {
        let mut image = ground(dice);
        let text = LINES[dice.below(LINES.len())];
        let (width, height) = ((text.len() * 6 - 1) * scale, 7 * scale);
        let at = (4 + dice.below(image.columns - width - 8), 4 + dice.below(image.rows - height - 8));
        // Grey between the middle and the end of what the image shows.
        let value = 300 + dice.below(700) as i32;
        let line = draw(&mut image, text, scale, at, style, value);
        for v in &mut image.values {
            *v += (6.0 * dice.bell()) as i32;
        }
        hits += usize::from(covered(line, &text_like(&image.values, image.rows, image.columns)) >= 0.5);
    }
    hits
}

#[test]
fn drawn_text_is_found_in_a_drawn_body_and_the_body_is_not() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..25 {
        let image = body(&mut dice);
        assert_eq!(text_like(&image.values, image.rows, image.columns), []);
    }
    let bodies: Vec<Image> = (0..5).map(|_| body(&mut dice)).collect();
    let mut ground = |dice: &mut Dice| {
        let image = &bodies[dice.below(bodies.len())];
        Image { rows: image.rows, columns: image.columns, values: image.values.clone() }
    };
    for style in [Style::White, Style::BlackOnWhite, Style::Grey] {
        let hits: Vec<usize> = (1..=4).map(|scale| rate(&mut dice, style, scale, 17, &mut ground)).collect();
        println!("{style:?}: {hits:?} of 17 at 1x to 4x");
        assert!(hits.iter().sum::<usize>() >= 60, "{style:?}: {hits:?} of 17 at 1x to 4x");
    }
}

#[test]
fn noise_and_small_or_even_images_hold_nothing() {
    let mut dice = Dice(5);
    for deviation in [0.0, 3.0, 300.0] {
        let values: Vec<i32> = (0..256 * 256).map(|_| (deviation * dice.bell()) as i32).collect();
        assert_eq!(text_like(&values, 256, 256), []);
    }
    assert_eq!(text_like(&[], 0, 0), []);
    assert_eq!(text_like(&[1, 2, 3], 1, 3), []);
    assert_eq!(text_like(&[1; 10], 100, 100), []);
    let extremes: Vec<i32> = (0..64 * 64).map(|i| if i % 3 == 0 { i32::MIN } else { i32::MAX }).collect();
    text_like(&extremes, 64, 64);
}

/// Grey values of every frame of every file below a folder of real images, colour as luminance.
fn real(folder: &str, use_it: &mut dyn FnMut(&std::path::Path, &str, Image)) {
    let Some(root) = gantry_tests::fixture::shared(folder) else { return };
    for file in walkdir::WalkDir::new(&root).sort_by_file_name().into_iter().filter_map(Result::ok) {
        let Ok(bytes) = std::fs::read(file.path()) else { continue };
        let Ok(Some(outline)) = guard::walk(bytes) else { continue };
        let Ok(parsed) = header::parse(&outline) else { continue };
        let Ok(description) = blank::BlankDescription::of(&parsed) else { continue };
        let Ok(pixels) = blank::Pixels::of(&outline, &description) else { continue };
        let Ok((d, bytes)) = blank::decode(&description, pixels) else { continue };
        let modality = header::text(&parsed, dicom_dictionary_std::tags::MODALITY).unwrap_or_default();
        for frame in 0..d.frames {
            let image = Image { rows: d.rows, columns: d.columns, values: blank::grey(&d, &bytes, frame) };
            use_it(file.path(), &modality, image);
        }
    }
}

#[test]
fn nothing_is_reported_on_real_anatomy_and_real_screen_text_is() {
    let (mut slices, mut lines) = (0, 0);
    for folder in ["chest-cta-heart/dicom", "siemens-abdomen-j2k", "transfer-syntaxes", "odd-series"] {
        real(&format!("data/{folder}"), &mut |path, modality, image| {
            let found = text_like(&image.values, image.rows, image.columns);
            if modality == "US" {
                lines += found.len();
            } else {
                slices += 1;
                assert_eq!(found, [], "{}", path.display());
            }
        });
    }
    println!("{slices} slices without text, {lines} lines of text on ultrasound screens");
    if gantry_tests::fixture::shared("data/siemens-abdomen-j2k").is_some() {
        assert!(slices >= 280 && lines >= 10, "{slices} {lines}");
    }
}

#[test]
fn drawn_text_is_found_in_a_real_slice() {
    let mut abdomen = Vec::new();
    real("data/siemens-abdomen-j2k", &mut |_, _, image| abdomen.push(image));
    if abdomen.is_empty() {
        return;
    }
    let mut dice = Dice(77);
    let mut ground = |dice: &mut Dice| {
        let image = &abdomen[dice.below(abdomen.len())];
        Image { rows: image.rows, columns: image.columns, values: image.values.clone() }
    };
    for style in [Style::White, Style::BlackOnWhite, Style::Grey] {
        let hits: Vec<usize> = (1..=4).map(|scale| rate(&mut dice, style, scale, 50, &mut ground)).collect();
        println!("{style:?}: {hits:?} of 50 at 1x to 4x");
        let least = if style == Style::Grey { 150 } else { 195 };
        assert!(hits.iter().sum::<usize>() >= least, "{style:?}: {hits:?} of 50 at 1x to 4x");
    }
}
