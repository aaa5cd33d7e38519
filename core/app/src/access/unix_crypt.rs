//! `crypt(3)` as Unix had it first: 25 rounds of DES with a salted expansion. Only to recognise
//! passwords that were hashed so long ago; written bit by bit, because nobody waits for it.

/// Bits, the most significant one first, as the standard (FIPS 46-3) counts them from 1.
type Bits<const N: usize> = [u8; N];

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The 13 characters: the salt's two, and the hash of the first eight of the password.
pub(super) fn unix_crypt(password: &[u8], salt: &str) -> String {
    let mut salted = [false; 24];
    for (n, letter) in salt.bytes().take(2).enumerate() {
        let value = ALPHABET.iter().position(|l| *l == letter).unwrap_or(0);
        for bit in 0..6 {
            salted[6 * n + bit] = value >> bit & 1 == 1;
        }
    }
    let mut key = [0; 64];
    for (n, byte) in password.iter().take(8).enumerate() {
        for bit in 0..7 {
            key[8 * n + bit] = byte >> (6 - bit) & 1;
        }
    }
    let keys = schedule(&key);
    let (mut left, mut right): (Bits<32>, Bits<32>) = ([0; 32], [0; 32]);
    for _ in 0..25 {
        for key in &keys {
            let mixed = mix(&right, key, &salted);
            let next = std::array::from_fn(|n| left[n] ^ mixed[n]);
            left = right;
            right = next;
        }
        std::mem::swap(&mut left, &mut right);
    }
    let halves: Bits<64> = std::array::from_fn(|n| if n < 32 { left[n] } else { right[n - 32] });
    let block: Bits<64> = select(&halves, &FINAL);
    let mut text: String = salt.chars().take(2).collect();
    for piece in block.chunks(6) {
        let value = (0..6).fold(0, |v, n| v << 1 | piece.get(n).copied().unwrap_or(0));
        text.push(ALPHABET[usize::from(value)] as char);
    }
    text
}

fn schedule(key: &Bits<64>) -> [Bits<48>; 16] {
    let chosen: Bits<56> = select(key, &CHOICE_1);
    let (mut c, mut d) = ([0; 28], [0; 28]);
    c.copy_from_slice(&chosen[..28]);
    d.copy_from_slice(&chosen[28..]);
    std::array::from_fn(|round| {
        let by = if matches!(round, 0 | 1 | 8 | 15) {
            1
        } else {
            2
        };
        c.rotate_left(by);
        d.rotate_left(by);
        let both: Bits<56> = std::array::from_fn(|n| if n < 28 { c[n] } else { d[n - 28] });
        select(&both, &CHOICE_2)
    })
}

fn mix(right: &Bits<32>, key: &Bits<48>, salted: &[bool; 24]) -> Bits<32> {
    let mut wide: Bits<48> = std::array::from_fn(|n| right[(n / 6 * 4 + n % 6 + 31) % 32]);
    for (n, swap) in salted.iter().enumerate() {
        if *swap {
            wide.swap(n, n + 24);
        }
    }
    let mut out = [0; 32];
    for (n, table) in S.iter().enumerate() {
        let bit = |at: usize| usize::from(wide[6 * n + at] ^ key[6 * n + at]);
        let row = bit(0) << 1 | bit(5);
        let column = bit(1) << 3 | bit(2) << 2 | bit(3) << 1 | bit(4);
        let value = table[row * 16 + column];
        for at in 0..4 {
            out[4 * n + at] = value >> (3 - at) & 1;
        }
    }
    select(&out, &P)
}

fn select<const N: usize>(from: &[u8], places: &[u8; N]) -> Bits<N> {
    std::array::from_fn(|n| from[usize::from(places[n]) - 1])
}

#[rustfmt::skip]
const FINAL: [u8; 64] = [
    40, 8, 48, 16, 56, 24, 64, 32, 39, 7, 47, 15, 55, 23, 63, 31,
    38, 6, 46, 14, 54, 22, 62, 30, 37, 5, 45, 13, 53, 21, 61, 29,
    36, 4, 44, 12, 52, 20, 60, 28, 35, 3, 43, 11, 51, 19, 59, 27,
    34, 2, 42, 10, 50, 18, 58, 26, 33, 1, 41, 9, 49, 17, 57, 25,
];

#[rustfmt::skip]
const CHOICE_1: [u8; 56] = [
    57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3,
    60, 52, 44, 36, 63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37,
    29, 21, 13, 5, 28, 20, 12, 4,
];

#[rustfmt::skip]
const CHOICE_2: [u8; 48] = [
    14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2,
    41, 52, 31, 37, 47, 55, 30, 40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32,
];

#[rustfmt::skip]
const P: [u8; 32] = [
    16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10,
    2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6, 22, 11, 4, 25,
];

#[rustfmt::skip]
const S: [[u8; 64]; 8] = [
    [
        14, 4, 13, 1, 2, 15, 11, 8, 3, 10, 6, 12, 5, 9, 0, 7,
        0, 15, 7, 4, 14, 2, 13, 1, 10, 6, 12, 11, 9, 5, 3, 8,
        4, 1, 14, 8, 13, 6, 2, 11, 15, 12, 9, 7, 3, 10, 5, 0,
        15, 12, 8, 2, 4, 9, 1, 7, 5, 11, 3, 14, 10, 0, 6, 13,
    ],
    [
        15, 1, 8, 14, 6, 11, 3, 4, 9, 7, 2, 13, 12, 0, 5, 10,
        3, 13, 4, 7, 15, 2, 8, 14, 12, 0, 1, 10, 6, 9, 11, 5,
        0, 14, 7, 11, 10, 4, 13, 1, 5, 8, 12, 6, 9, 3, 2, 15,
        13, 8, 10, 1, 3, 15, 4, 2, 11, 6, 7, 12, 0, 5, 14, 9,
    ],
    [
        10, 0, 9, 14, 6, 3, 15, 5, 1, 13, 12, 7, 11, 4, 2, 8,
        13, 7, 0, 9, 3, 4, 6, 10, 2, 8, 5, 14, 12, 11, 15, 1,
        13, 6, 4, 9, 8, 15, 3, 0, 11, 1, 2, 12, 5, 10, 14, 7,
        1, 10, 13, 0, 6, 9, 8, 7, 4, 15, 14, 3, 11, 5, 2, 12,
    ],
    [
        7, 13, 14, 3, 0, 6, 9, 10, 1, 2, 8, 5, 11, 12, 4, 15,
        13, 8, 11, 5, 6, 15, 0, 3, 4, 7, 2, 12, 1, 10, 14, 9,
        10, 6, 9, 0, 12, 11, 7, 13, 15, 1, 3, 14, 5, 2, 8, 4,
        3, 15, 0, 6, 10, 1, 13, 8, 9, 4, 5, 11, 12, 7, 2, 14,
    ],
    [
        2, 12, 4, 1, 7, 10, 11, 6, 8, 5, 3, 15, 13, 0, 14, 9,
        14, 11, 2, 12, 4, 7, 13, 1, 5, 0, 15, 10, 3, 9, 8, 6,
        4, 2, 1, 11, 10, 13, 7, 8, 15, 9, 12, 5, 6, 3, 0, 14,
        11, 8, 12, 7, 1, 14, 2, 13, 6, 15, 0, 9, 10, 4, 5, 3,
    ],
    [
        12, 1, 10, 15, 9, 2, 6, 8, 0, 13, 3, 4, 14, 7, 5, 11,
        10, 15, 4, 2, 7, 12, 9, 5, 6, 1, 13, 14, 0, 11, 3, 8,
        9, 14, 15, 5, 2, 8, 12, 3, 7, 0, 4, 10, 1, 13, 11, 6,
        4, 3, 2, 12, 9, 5, 15, 10, 11, 14, 1, 7, 6, 0, 8, 13,
    ],
    [
        4, 11, 2, 14, 15, 0, 8, 13, 3, 12, 9, 7, 5, 10, 6, 1,
        13, 0, 11, 7, 4, 9, 1, 10, 14, 3, 5, 12, 2, 15, 8, 6,
        1, 4, 11, 13, 12, 3, 7, 14, 10, 15, 6, 8, 0, 5, 9, 2,
        6, 11, 13, 8, 1, 4, 10, 7, 9, 5, 0, 15, 14, 2, 3, 12,
    ],
    [
        13, 2, 8, 4, 6, 15, 11, 1, 10, 9, 3, 14, 5, 0, 12, 7,
        1, 15, 13, 8, 10, 3, 7, 4, 12, 5, 6, 11, 0, 14, 9, 2,
        7, 11, 4, 1, 9, 12, 14, 2, 0, 6, 10, 13, 15, 3, 5, 8,
        2, 1, 14, 7, 4, 10, 8, 13, 15, 12, 9, 0, 3, 5, 6, 11,
    ],
];
