//! Lines out of a stream of bytes.

/// The lines that this part completes. A line may come in several parts; workers end each with a
/// line break.
pub fn whole_lines(open: &mut Vec<u8>, part: &[u8]) -> Vec<String> {
    let Some(last) = part.iter().rposition(|byte| *byte == b'\n') else {
        open.extend_from_slice(part);
        return Vec::new();
    };
    open.extend_from_slice(&part[..last]);
    let whole = std::mem::replace(open, part[last + 1..].to_vec());
    let lines = whole.split(|byte| *byte == b'\n');
    lines
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_wherever_they_were_cut() {
        let text = "{\"a\":1}\n{\"b\":\"\u{20ac}\"}\n";
        for cut in 0..=text.len() {
            let mut open = Vec::new();
            let mut seen = whole_lines(&mut open, &text.as_bytes()[..cut]);
            seen.extend(whole_lines(&mut open, &text.as_bytes()[cut..]));
            assert_eq!(seen, ["{\"a\":1}", "{\"b\":\"\u{20ac}\"}"], "cut at {cut}");
        }
    }
}
