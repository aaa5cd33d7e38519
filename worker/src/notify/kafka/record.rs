//! Record batches in their second form (`magic` 2), which brokers keep as they are.

use super::wire::Fields;

/// One message.
#[derive(Clone, Debug)]
pub struct Record {
    /// The same for the same container, so that what is said of it stays in order.
    pub key: String,
    pub value: Vec<u8>,
    pub headers: Vec<(&'static str, String)>,
}

impl Record {
    pub fn size(&self) -> usize {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len());
        self.key.len() + self.value.len() + headers.sum::<usize>() + 40
    }

    /// Which of so many partitions it belongs to.
    pub fn partition(&self, partitions: usize) -> usize {
        crc32c(self.key.as_bytes()) as usize % partitions.max(1)
    }

    fn encode(&self, place: usize) -> Vec<u8> {
        let mut body = vec![0];
        varint(&mut body, 0);
        varint(&mut body, place);
        sized(&mut body, self.key.as_bytes());
        sized(&mut body, &self.value);
        varint(&mut body, self.headers.len());
        for (name, value) in &self.headers {
            sized(&mut body, name.as_bytes());
            sized(&mut body, value.as_bytes());
        }
        body
    }
}

/// `now` in milliseconds since 1970.
pub fn batch(records: &[Record], now: i64) -> Vec<u8> {
    let mut checked = Fields::default();
    // Attributes: no compression, time of creation.
    checked.i16(0);
    checked.count(records.len().saturating_sub(1));
    checked.i64(now);
    checked.i64(now);
    // No producer with an id: delivery is at least once, and headers tell repetitions.
    checked.i64(-1);
    checked.i16(-1);
    checked.i32(-1);
    checked.count(records.len());
    for (place, record) in records.iter().enumerate() {
        sized(&mut checked.0, &record.encode(place));
    }
    let mut rest = Fields::default();
    // The leader's epoch, which only brokers know.
    rest.i32(-1);
    rest.0.push(2);
    rest.0.extend(crc32c(&checked.0).to_be_bytes());
    rest.0.extend(checked.0);
    let mut batch = Fields::default();
    batch.i64(0);
    batch.bytes(&rest.0);
    batch.0
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    varint(out, bytes.len());
    out.extend(bytes);
}

/// Zigzag, seven bits at a time; what we write is never negative.
fn varint(out: &mut Vec<u8>, number: usize) {
    let mut left = (number as u64) << 1;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// Castagnoli's checksum (RFC 3720, appendix B.4).
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    let step = |crc: u32, byte: &u8| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8);
    !bytes.iter().fold(!0, step)
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let (mut crc, mut bit) = (n as u32, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn numbers_are_written_in_zigzag() {
        for (number, expected) in [
            (0, &[0][..]),
            (1, &[2]),
            (63, &[126]),
            (64, &[0x80, 1]),
            (300, &[0xd8, 4]),
        ] {
            let mut out = Vec::new();
            varint(&mut out, number);
            assert_eq!(out, expected, "{number}");
        }
    }
}
