//! Sequences nested without end are refused, whatever reads them first.

use anonymizer::dataset;

#[test]
fn endless_nesting_is_refused() {
    for levels in [20usize, 40, 300, 100_000] {
        let mut bytes = Vec::new();
        for _ in 0..levels {
            // CT Exposure Sequence and an item, both of undefined length.
            bytes.extend([0x18, 0x00, 0x21, 0x93, b'S', b'Q', 0, 0, 0xff, 0xff, 0xff, 0xff]);
            bytes.extend([0xfe, 0xff, 0x00, 0xe0, 0xff, 0xff, 0xff, 0xff]);
        }
        for _ in 0..levels {
            bytes.extend([0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0, 0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]);
        }
        let read = dataset::read(&bytes);
        assert_eq!(read.is_ok(), levels <= 32, "{levels}");
    }
}
