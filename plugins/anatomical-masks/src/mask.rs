//! A binary mask of one slice, and what 4-connectivity says about it: components, holes, reachability.

/// Set and unset pixels of one slice, row by row. Neighbours are the four that share an edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    rows: usize,
    columns: usize,
    set: Vec<bool>,
}

/// The 4-connected components of a mask, numbered from 0 in the order of their first pixels.
#[derive(Debug)]
pub struct Components {
    /// Component of each pixel, or `NONE`.
    of_pixel: Vec<u32>,
    /// Pixels in each component.
    sizes: Vec<usize>,
}

const NONE: u32 = u32::MAX;

impl Mask {
    /// A mask without a pixel.
    pub fn empty(rows: usize, columns: usize) -> Self {
        Self { rows, columns, set: vec![false; rows * columns] }
    }

    /// The pixels for which `test(index)` holds, with index = row * columns + column.
    pub fn where_index(rows: usize, columns: usize, test: impl FnMut(usize) -> bool) -> Self {
        Self { rows, columns, set: (0..rows * columns).map(test).collect() }
    }

    /// Rows of the slice.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the slice.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The pixels, row by row.
    pub fn pixels(&self) -> &[bool] {
        &self.set
    }

    /// Whether the pixel with this index is set.
    pub fn has(&self, index: usize) -> bool {
        self.set[index]
    }

    /// Number of set pixels.
    pub fn count(&self) -> usize {
        self.set.iter().filter(|&&p| p).count()
    }

    /// Writes 1 for set and 0 for unset pixels; `labels` is as long as the slice.
    pub fn write_labels(&self, labels: &mut [u8]) {
        for (label, &set) in labels.iter_mut().zip(&self.set) {
            *label = u8::from(set);
        }
    }

    /// Unsets a frame: `rows_px` at the top and bottom, `columns_px` left and right. May cover everything.
    pub fn clear_frame(&mut self, rows_px: usize, columns_px: usize) {
        for (row, line) in self.set.chunks_mut(self.columns.max(1)).enumerate() {
            if row < rows_px || row >= self.rows.saturating_sub(rows_px) {
                line.fill(false);
            } else {
                let right = self.columns.saturating_sub(columns_px);
                line[..columns_px.min(self.columns)].fill(false);
                line[right..].fill(false);
            }
        }
    }

    /// The 4-connected components.
    pub fn components(&self) -> Components {
        let mut of_pixel = vec![NONE; self.set.len()];
        let mut sizes = Vec::new();
        let mut pending = Vec::new();
        for start in 0..self.set.len() {
            if !self.set[start] || of_pixel[start] != NONE {
                continue;
            }
            let component = sizes.len() as u32;
            of_pixel[start] = component;
            pending.push(start);
            let mut size = 0;
            while let Some(pixel) = pending.pop() {
                size += 1;
                self.for_neighbours(pixel, |next| {
                    if self.set[next] && of_pixel[next] == NONE {
                        of_pixel[next] = component;
                        pending.push(next);
                    }
                });
            }
            sizes.push(size);
        }
        Components { of_pixel, sizes }
    }

    /// Unsets every component of fewer than `minimum_px` pixels and returns how many components remain.
    pub fn remove_small(&mut self, minimum_px: usize) -> usize {
        let components = self.components();
        for (set, &component) in self.set.iter_mut().zip(&components.of_pixel) {
            *set = component != NONE && components.sizes[component as usize] >= minimum_px;
        }
        components.sizes.iter().filter(|&&size| size >= minimum_px).count()
    }

    /// The whole of every component that has a pixel in `marker` (a mask of the same size).
    pub fn components_touching(&self, marker: &Mask) -> Self {
        let components = self.components();
        let mut touched = vec![false; components.sizes.len()];
        for (&component, &marked) in components.of_pixel.iter().zip(&marker.set) {
            if marked && component != NONE {
                touched[component as usize] = true;
            }
        }
        let set = components.of_pixel.iter().map(|&c| c != NONE && touched[c as usize]).collect();
        Self { rows: self.rows, columns: self.columns, set }
    }

    /// The set pixels that are connected to a pixel of the image border for which `seed(index)` holds.
    pub fn connected_to_border(&self, seed: impl Fn(usize) -> bool) -> Self {
        let mut reached = Self::empty(self.rows, self.columns);
        let mut pending = Vec::new();
        for pixel in self.border() {
            if self.set[pixel] && !reached.set[pixel] && seed(pixel) {
                reached.set[pixel] = true;
                pending.push(pixel);
            }
        }
        while let Some(pixel) = pending.pop() {
            self.for_neighbours(pixel, |next| {
                if self.set[next] && !reached.set[next] {
                    reached.set[next] = true;
                    pending.push(next);
                }
            });
        }
        reached
    }

    /// The mask with its holes filled: unset pixels that no 4-connected path of unset pixels joins to the border.
    pub fn filled(&self) -> Self {
        let background = Self::where_index(self.rows, self.columns, |i| !self.set[i]);
        let outside = background.connected_to_border(|_| true);
        Self::where_index(self.rows, self.columns, |i| !outside.set[i])
    }

    /// Indices of the border pixels; a corner may come twice.
    fn border(&self) -> impl Iterator<Item = usize> + use<> {
        let (rows, columns) = (self.rows, self.columns);
        let lines = if rows == 0 || columns == 0 { 0 } else { 1 };
        let along_rows = (0..columns * lines).flat_map(move |c| [c, (rows - 1) * columns + c]);
        let along_columns = (0..rows * lines).flat_map(move |r| [r * columns, r * columns + columns - 1]);
        along_rows.chain(along_columns)
    }

    fn for_neighbours(&self, pixel: usize, mut visit: impl FnMut(usize)) {
        let column = pixel % self.columns;
        if column > 0 {
            visit(pixel - 1);
        }
        if column + 1 < self.columns {
            visit(pixel + 1);
        }
        if pixel >= self.columns {
            visit(pixel - self.columns);
        }
        if pixel + self.columns < self.set.len() {
            visit(pixel + self.columns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(lines: &[&str]) -> Mask {
        let text: Vec<u8> = lines.iter().flat_map(|l| l.bytes()).collect();
        Mask::where_index(lines.len(), lines[0].len(), |i| text[i] == b'#')
    }

    #[test]
    fn diagonals_do_not_connect() {
        let mut mask = drawn(&["#..", ".##", "..#"]);
        assert_eq!(mask.components().sizes, [1, 3]);
        assert_eq!(mask.remove_small(2), 1);
        assert_eq!(mask, drawn(&["...", ".##", "..#"]));
        assert_eq!(mask.count(), 3);
    }

    #[test]
    fn holes_are_what_the_border_does_not_reach() {
        // The upper hole leaks only diagonally, which does not count; the lower notch is open.
        let mask = drawn(&[".###.", "##.#.", "#..#.", "####.", "#.##."]);
        assert_eq!(mask.filled(), drawn(&[".###.", "####.", "####.", "####.", "#.##."]));
        let diagonal = drawn(&[".##", "#.#", "###"]);
        assert_eq!(diagonal.filled(), drawn(&[".##", "###", "###"]));
    }

    #[test]
    fn touching_restores_whole_components() {
        let mask = drawn(&["##.#", "...#"]);
        let marker = drawn(&["...#", "...."]);
        assert_eq!(mask.components_touching(&marker), drawn(&["...#", "...#"]));
    }

    #[test]
    fn frames_may_cover_the_image_and_empty_images_are_fine() {
        let mut mask = drawn(&["####", "####", "####"]);
        mask.clear_frame(1, 1);
        assert_eq!(mask, drawn(&["....", ".##.", "...."]));
        let mut narrow = drawn(&["##", "##"]);
        narrow.clear_frame(0, 32);
        assert_eq!(narrow.count(), 0);
        for (rows, columns) in [(0, 0), (0, 3), (3, 0)] {
            let mut none = Mask::empty(rows, columns);
            none.clear_frame(32, 32);
            assert_eq!((none.filled().count(), none.remove_small(1)), (0, 0));
        }
    }

    #[test]
    fn border_seeds_choose_what_is_outside() {
        let mask = drawn(&["##.", "...", ".##"]);
        let reached = mask.connected_to_border(|i| i == 0);
        assert_eq!(reached, drawn(&["##.", "...", "..."]));
    }
}
