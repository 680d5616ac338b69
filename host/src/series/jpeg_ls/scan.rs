//! The entropy-coded part of a JPEG-LS image (ITU-T T.87 annex A): bits, contexts, runs.

use super::{Preset, damaged};
use crate::series::record::Fault;

/// Bits of a scan; a 0 bit is stuffed after each FF byte (A.1).
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
    /// Bits given out beyond the end of the data.
    missing: u32,
    after_ff: bool,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, held: 0, count: 0, missing: 0, after_ff: false }
    }

    fn fill(&mut self) {
        while self.count <= 48 {
            let next = self.bytes.get(self.at).copied();
            match next {
                // A marker (or the end) closes the data; zeros stand in for what is missing and are counted.
                None => self.push(0, 8, true),
                Some(byte) if self.after_ff && byte & 0x80 != 0 => self.push(0, 8, true),
                Some(byte) => {
                    let bits = if self.after_ff { 7 } else { 8 };
                    self.after_ff = byte == 0xFF;
                    self.at += 1;
                    self.push(u64::from(byte), bits, false);
                }
            }
        }
    }

    fn push(&mut self, byte: u64, bits: u32, missing: bool) {
        self.held = self.held << bits | byte;
        self.count += bits;
        if missing {
            self.missing += bits;
        }
    }

    /// Up to 32 bits.
    fn take(&mut self, bits: u32) -> Result<u32, Fault> {
        if bits == 0 {
            return Ok(0);
        }
        if self.count < bits {
            self.fill();
        }
        self.count -= bits;
        if self.missing > self.count {
            return Err(damaged("is cut off"));
        }
        Ok((self.held >> self.count & ((1 << bits) - 1)) as u32)
    }

    /// Number of 0 bits before the next 1 bit, which is taken too.
    fn zeros(&mut self, most: u32) -> Result<u32, Fault> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
            if zeros > most {
                return Err(damaged("has a code that is too long"));
            }
        }
        Ok(zeros)
    }

    /// Whether nothing but the padding of the last byte is left before a marker, and which marker.
    fn closing_marker(&self) -> Option<u8> {
        // Bytes may have been read ahead only up to a marker, so the marker stands at `at`, led by FF.
        let before = self.at.checked_sub(1)?;
        let (ff, marker) = if self.after_ff { (before, self.at) } else { (self.at, self.at + 1) };
        (self.bytes.get(ff) == Some(&0xFF)).then(|| self.bytes.get(marker).copied()).flatten()
    }
}

/// Contexts 0..=364 for regular mode, then two for run interruption (A.2, A.7.2).
#[derive(Clone, Copy)]
struct Context {
    a: i32,
    b: i32,
    c: i32,
    n: i32,
    nn: i32,
}

/// Order of the run-length codes (A.2.1, J).
const J: [u32; 32] =
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// The coded samples of a scan and the state of their decoding (annex A).
pub(super) struct Scan<'a> {
    bits: Bits<'a>,
    p: Preset,
    near: i32,
    range: i32,
    qbpp: u32,
    limit: u32,
    rows: usize,
    columns: usize,
    /// Lines between restart markers; 0 for none.
    restart: usize,
    contexts: Vec<Context>,
    run_index: usize,
    /// Quantised gradient of a difference, offset by `maxval`.
    gradient: Vec<i8>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        bytes: &'a [u8],
        p: Preset,
        near: i32,
        rows: usize,
        columns: usize,
        restart: usize,
    ) -> Result<Self, Fault> {
        let range = (p.maxval + 2 * near) / (2 * near + 1) + 1;
        let ceil_log2 = |n: i32| 32 - (n - 1).leading_zeros();
        let bpp = ceil_log2(p.maxval + 1).max(2);
        let qbpp = ceil_log2(range);
        let limit = 2 * (bpp + bpp.max(8));
        let quantise = |d: i32| -> i8 {
            let sign = if d < 0 { -1 } else { 1 };
            sign * match d.abs() {
                d if d >= p.t3 => 4,
                d if d >= p.t2 => 3,
                d if d >= p.t1 => 2,
                d if d > near => 1,
                _ => 0,
            }
        };
        let gradient = (-p.maxval..=p.maxval).map(quantise).collect();
        if limit <= qbpp + 1 {
            return Err(damaged("has impossible parameters"));
        }
        let bits = Bits::new(bytes, 0);
        let mut scan = Self {
            bits,
            p,
            near,
            range,
            qbpp,
            limit,
            rows,
            columns,
            restart,
            contexts: Vec::new(),
            run_index: 0,
            gradient,
        };
        scan.reset();
        Ok(scan)
    }

    fn reset(&mut self) {
        let a = ((self.range + 32) / 64).max(2);
        self.contexts.clear();
        self.contexts.resize(367, Context { a, b: 0, c: 0, n: 1, nn: 0 });
        self.run_index = 0;
    }

    fn quantise(&self, d: i32) -> i32 {
        self.gradient.get((d + self.p.maxval) as usize).copied().map_or(0, i32::from)
    }

    /// Decodes all samples, row by row.
    pub(super) fn decode(mut self) -> Result<Vec<u16>, Fault> {
        let width = self.columns + 2;
        // Lines with one sample of border on either side: [0] is Ra of the first sample, [columns + 1] Rd of the last.
        let mut above = vec![0i32; width];
        let mut line = vec![0i32; width];
        let mut samples = Vec::with_capacity(self.rows * self.columns);
        for row in 0..self.rows {
            if self.restart > 0 && row > 0 && row % self.restart == 0 {
                self.skip_restart_marker()?;
                above.fill(0);
                line.fill(0);
            }
            // A.2.1: Ra of the first sample is Rb; Rc is Ra of the line above; Rd of the last is Rb.
            let corner = above[0];
            line[0] = above[1];
            above[self.columns + 1] = above[self.columns];
            above[0] = corner;
            self.line(&above, &mut line)?;
            samples.extend(line[1..=self.columns].iter().map(|&v| v as u16));
            std::mem::swap(&mut above, &mut line);
        }
        Ok(samples)
    }

    fn skip_restart_marker(&mut self) -> Result<(), Fault> {
        match self.bits.closing_marker() {
            Some(0xD0..=0xD7) => {}
            _ => return Err(damaged("lacks a restart marker")),
        }
        let after = if self.bits.after_ff { self.bits.at + 1 } else { self.bits.at + 2 };
        self.bits = Bits::new(self.bits.bytes, after);
        self.reset();
        Ok(())
    }

    fn line(&mut self, above: &[i32], line: &mut [i32]) -> Result<(), Fault> {
        let mut x = 1;
        while x <= self.columns {
            let (ra, rb, rc, rd) = (line[x - 1], above[x], above[x - 1], above[x + 1]);
            let (q1, q2, q3) = (self.quantise(rd - rb), self.quantise(rb - rc), self.quantise(rc - ra));
            if (q1, q2, q3) != (0, 0, 0) {
                line[x] = self.regular(q1 * 81 + q2 * 9 + q3, ra, rb, rc)?;
                x += 1;
            } else {
                x = self.run(above, line, x)?;
            }
        }
        Ok(())
    }

    /// One sample in regular mode (A.4 to A.6); `q` is the signed context number.
    fn regular(&mut self, q: i32, ra: i32, rb: i32, rc: i32) -> Result<i32, Fault> {
        let sign = if q < 0 { -1 } else { 1 };
        let at = q.unsigned_abs() as usize;
        let mut context = self.contexts[at];
        let predicted = if rc >= ra.max(rb) {
            ra.min(rb)
        } else if rc <= ra.min(rb) {
            ra.max(rb)
        } else {
            ra + rb - rc
        };
        let predicted = (predicted + sign * context.c).clamp(0, self.p.maxval);
        let k = golomb(context.n, context.a)?;
        let mapped = self.code(k, self.limit)?;
        let mut error = if mapped & 1 == 0 { mapped >> 1 } else { -((mapped + 1) >> 1) };
        if self.near == 0 && k == 0 && 2 * context.b <= -context.n {
            error = -(error + 1);
        }
        // A.6: update.
        context.b += error * (2 * self.near + 1);
        context.a += error.abs();
        if context.n == self.p.reset {
            context.a >>= 1;
            context.b >>= 1;
            context.n >>= 1;
        }
        context.n += 1;
        if context.b <= -context.n {
            context.b = (context.b + context.n).max(1 - context.n);
            context.c = (context.c - 1).max(-128);
        } else if context.b > 0 {
            context.b = (context.b - context.n).min(0);
            context.c = (context.c + 1).min(127);
        }
        self.contexts[at] = context;
        Ok(self.reconstruct(predicted, sign * error))
    }

    /// Adds a decoded error to a prediction, modulo the range, and clamps (A.4.4, A.4.5).
    fn reconstruct(&self, predicted: i32, error: i32) -> i32 {
        let step = 2 * self.near + 1;
        let mut value = predicted + error * step;
        if value < -self.near {
            value += self.range * step;
        } else if value > self.p.maxval + self.near {
            value -= self.range * step;
        }
        value.clamp(0, self.p.maxval)
    }

    /// A run of equal samples and the sample that ends it (A.7); gives where the line goes on.
    fn run(&mut self, above: &[i32], line: &mut [i32], from: usize) -> Result<usize, Fault> {
        let ra = line[from - 1];
        let mut x = from;
        loop {
            let order = J[self.run_index];
            if self.bits.take(1)? == 1 {
                let length = (1usize << order).min(self.columns + 1 - x);
                line[x..x + length].fill(ra);
                x += length;
                if length == 1 << order {
                    self.run_index = (self.run_index + 1).min(31);
                }
                if x > self.columns {
                    return Ok(x);
                }
            } else {
                let length = self.bits.take(order)? as usize;
                if length > self.columns - x {
                    return Err(damaged("has a run beyond the end of a line"));
                }
                line[x..x + length].fill(ra);
                x += length;
                break;
            }
        }
        let rb = above[x];
        let kind = usize::from((ra - rb).abs() <= self.near);
        let predicted = if kind == 1 { ra } else { rb };
        let sign = if kind == 0 && ra > rb { -1 } else { 1 };
        let at = 365 + kind;
        let mut context = self.contexts[at];
        let temp = if kind == 1 { context.a + (context.n >> 1) } else { context.a };
        let k = golomb(context.n, temp)?;
        let mapped = self.code(k, self.limit - J[self.run_index] - 1)?;
        // A.7.2.1, inverted: EMErrval = 2 * |Errval| - kind - map.
        let whole = mapped + kind as i32;
        let map = whole & 1;
        let size = (whole + map) >> 1;
        let negative_when_mapped = k != 0 || 2 * context.nn >= context.n;
        let error = if (map == 1) == negative_when_mapped { -size } else { size };
        if error < 0 {
            context.nn += 1;
        }
        context.a += (mapped + 1 - kind as i32) >> 1;
        if context.n == self.p.reset {
            context.a >>= 1;
            context.n >>= 1;
            context.nn >>= 1;
        }
        context.n += 1;
        self.contexts[at] = context;
        line[x] = self.reconstruct(predicted, sign * error);
        self.run_index = self.run_index.saturating_sub(1);
        Ok(x + 1)
    }

    /// A limited-length Golomb code (A.5.3).
    fn code(&mut self, k: u32, limit: u32) -> Result<i32, Fault> {
        let escape = limit - self.qbpp - 1;
        let zeros = self.bits.zeros(escape)?;
        let value = if zeros < escape { zeros << k | self.bits.take(k)? } else { self.bits.take(self.qbpp)? + 1 };
        // Errors beyond the range can only come from a damaged stream.
        if value > 4 * self.range as u32 {
            return Err(damaged("has a sample out of range"));
        }
        Ok(value as i32)
    }
}

/// The Golomb parameter k: the smallest with `n << k >= a` (A.5.1).
fn golomb(n: i32, a: i32) -> Result<u32, Fault> {
    (0..=24).find(|&k| i64::from(n) << k >= i64::from(a)).ok_or_else(|| damaged("has an impossible state"))
}
