//! Just enough of the ustar format to write an image layer.

pub enum Entry<'a> {
    File {
        path: &'a str,
        mode: u32,
        content: &'a [u8],
    },
    Link {
        path: &'a str,
        target: &'a str,
    },
    Directory {
        path: &'a str,
        mode: u32,
    },
}

/// An uncompressed archive with the given entries. The same entries give the same bytes.
///
/// # Panics
/// When a path is longer than the 100 bytes of a plain ustar header.
pub fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        let (path, mode, kind, target, content): (_, _, _, _, &[u8]) = match entry {
            Entry::File {
                path,
                mode,
                content,
            } => (path, *mode, b'0', "", content),
            Entry::Link { path, target } => (path, 0o777, b'2', *target, &[]),
            Entry::Directory { path, mode } => (path, *mode, b'5', "", &[]),
        };
        assert!(
            path.len() <= 100 && target.len() <= 100,
            "{path} is too long"
        );
        let mut header = [0u8; 512];
        let mut put = |at: usize, text: &str| {
            header[at..at + text.len()].copy_from_slice(text.as_bytes());
        };
        put(0, path);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", content.len()));
        put(136, "00000000000");
        put(148, "        ");
        put(157, target);
        put(257, "ustar\x0000");
        header[156] = kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}
