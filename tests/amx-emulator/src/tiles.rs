//! The tiles of one thread: palette 1, eight tiles of at most 16 rows of 64 bytes.

/// Bytes of a row of a tile register.
pub(crate) const ROW: usize = 64;
/// Rows of a tile register.
pub(crate) const ROWS: usize = 16;
/// Tile registers.
pub(crate) const TILES: usize = 8;

/// One tile register; what lies outside its configured shape is zero.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Tile(pub(crate) [[u8; ROW]; ROWS]);

impl Tile {
    pub(crate) const ZERO: Self = Self([[0; ROW]; ROWS]);
}

/// Rows and bytes per row of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

/// Why the processor would refuse an instruction.
pub(crate) type Refusal = &'static str;

/// Configuration and contents.
pub(crate) struct TileState {
    /// As it was loaded, or zeros before the first and after a release.
    config: [u8; 64],
    tiles: [Tile; TILES],
}

impl TileState {
    /// Nothing configured.
    pub(crate) const INITIAL: Self = Self { config: [0; 64], tiles: [Tile::ZERO; TILES] };

    /// The 64 bytes that describe the shapes.
    pub(crate) fn config(&self) -> &[u8; 64] {
        &self.config
    }

    /// Back to nothing configured.
    pub(crate) fn release(&mut self) {
        *self = Self::INITIAL;
    }

    /// Takes shapes and zeroes all tiles.
    ///
    /// Byte 0 is the palette, byte 1 the row to start with, words from byte 16 are bytes per row, bytes from 48 are rows.
    pub(crate) fn configure(&mut self, config: &[u8; 64]) -> Result<(), Refusal> {
        if config[0] == 0 {
            self.release();
            return Ok(());
        }
        if config[0] != 1 {
            return Err("LDTILECFG: palette 0 or 1 expected");
        }
        if config[1] != 0 {
            // Left by an interrupted load or store, and then reloaded: neither happens here.
            return Err("LDTILECFG: a start row other than 0 is not emulated");
        }
        let reserved = config[2..16].iter().chain(&config[32..48]).chain(&config[56..]);
        if reserved.into_iter().any(|&byte| byte != 0) {
            return Err("LDTILECFG: reserved bytes are not zero");
        }
        for tile in 0..TILES {
            let Shape { rows, bytes } = shape_in(config, tile);
            if rows > ROWS || bytes > ROW {
                return Err("LDTILECFG: a tile has more than 16 rows or 64 bytes per row");
            }
            if (rows == 0) != (bytes == 0) {
                return Err("LDTILECFG: a tile has rows without bytes or bytes without rows");
            }
        }
        *self = Self { config: *config, ..Self::INITIAL };
        Ok(())
    }

    /// The shape of a configured tile.
    pub(crate) fn shape(&self, tile: usize) -> Result<Shape, Refusal> {
        if self.config[0] == 0 {
            return Err("a tile instruction without LDTILECFG before it");
        }
        let shape = shape_in(&self.config, tile);
        if shape.rows == 0 { Err("a tile that is not configured") } else { Ok(shape) }
    }

    /// The register; [`Self::shape`] says which part is in use.
    pub(crate) fn tile(&self, tile: usize) -> &Tile {
        &self.tiles[tile]
    }

    /// The register, to be written inside its shape alone or zeroed outside.
    pub(crate) fn tile_mut(&mut self, tile: usize) -> &mut Tile {
        &mut self.tiles[tile]
    }

    /// Target and factors of a product.
    pub(crate) fn three(&mut self, into: usize, left: usize, right: usize) -> Result<[&mut Tile; 3], Refusal> {
        self.tiles
            .get_disjoint_mut([into, left, right])
            .map_err(|_| "a product of tiles that are not three different ones")
    }

    /// Rows and columns of the result and the length of the sums, in dwords, of `into += left * right`.
    pub(crate) fn product(&self, into: usize, left: usize, right: usize) -> Result<[usize; 3], Refusal> {
        if into == left || into == right || left == right {
            return Err("a product of tiles that are not three different ones");
        }
        let [c, a, b] = [self.shape(into)?, self.shape(left)?, self.shape(right)?];
        if [c, a, b].iter().any(|shape| shape.bytes % 4 != 0) {
            return Err("a product of tiles whose rows are no whole dwords");
        }
        if c.bytes != b.bytes || c.rows != a.rows || a.bytes / 4 != b.rows {
            return Err("a product of tiles whose shapes do not fit");
        }
        Ok([c.rows, c.bytes / 4, b.rows])
    }
}

fn shape_in(config: &[u8; 64], tile: usize) -> Shape {
    let bytes = u16::from_le_bytes([config[16 + 2 * tile], config[17 + 2 * tile]]);
    Shape { rows: config[48 + tile].into(), bytes: bytes.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(shapes: &[(u8, u16)]) -> [u8; 64] {
        let mut config = [0; 64];
        config[0] = 1;
        for (tile, &(rows, bytes)) in shapes.iter().enumerate() {
            config[48 + tile] = rows;
            config[16 + 2 * tile..][..2].copy_from_slice(&bytes.to_le_bytes());
        }
        config
    }

    #[test]
    fn shapes_that_a_processor_refuses() {
        let mut state = TileState::INITIAL;
        for shapes in [[(17, 4)], [(1, 65)], [(0, 4)], [(4, 0)]] {
            assert!(state.configure(&config(&shapes)).is_err(), "{shapes:?}");
        }
        for (byte, value) in [(0, 2), (2, 1), (15, 1), (32, 1), (47, 1), (56, 1), (63, 1)] {
            let mut wrong = config(&[(1, 4)]);
            wrong[byte] = value;
            assert!(state.configure(&wrong).is_err(), "byte {byte}");
        }
        assert!(state.shape(0).is_err(), "a refused configuration was taken");
        state.configure(&config(&[(3, 20), (3, 28), (7, 20), (7, 24), (3, 30)])).expect("a good one");
        assert_eq!(state.product(0, 1, 2), Ok([3, 5, 7]));
        for (into, left, right) in [(0, 1, 1), (0, 0, 2), (1, 0, 2), (0, 1, 3), (4, 1, 2), (0, 1, 5)] {
            assert!(state.product(into, left, right).is_err(), "{into} {left} {right}");
        }
        state.release();
        assert!(state.product(0, 1, 2).is_err());
    }
}
