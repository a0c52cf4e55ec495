//! The wire format in which a node tells how it is.
//!
//! A node writes lines into its report pipe: a decimal code (0 is healthy, above 0 is a reason to be replaced), or the
//! word `ready`, once it has booted. A line may arrive in pieces, and many lines at once. Nobody answers, so a node
//! never waits for its supervisor.

/// The line that says that a node has booted.
pub const READY: &[u8] = b"ready\n";

/// The largest line that means something: a code is a `u32`. What is longer is dropped up to its newline.
const LONGEST: usize = 16;

/// What a node has told since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The highest code of the batch, where it held one.
    pub worst: Option<u32>,
    /// True where the batch held `ready`.
    pub ready: bool,
    /// How many lines were neither.
    pub malformed: u32,
}

impl Report {
    /// True where the node has told nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The line that carries `code`.
pub fn line(code: u32) -> Vec<u8> {
    format!("{code}\n").into_bytes()
}

/// Puts lines together out of the pieces in which a pipe gives them.
#[derive(Debug, Default)]
pub struct Parser {
    partial: Vec<u8>,
}

impl Parser {
    /// Takes what was read from the pipe and adds what it tells to `report`.
    pub fn feed(&mut self, bytes: &[u8], report: &mut Report) {
        for byte in bytes {
            if *byte == b'\n' {
                read_line(&self.partial, report);
                self.partial.clear();
            } else if self.partial.len() <= LONGEST {
                self.partial.push(*byte);
            }
        }
    }
}

fn read_line(line: &[u8], report: &mut Report) {
    let code = std::str::from_utf8(line).ok().map(str::trim).filter(|text| text.len() <= LONGEST);
    match code {
        Some("ready") => report.ready = true,
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => match text.parse::<u32>() {
            Ok(code) => report.worst = report.worst.max(Some(code)),
            Err(_) => report.malformed += 1,
        },
        _ => report.malformed += 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(pieces: &[&[u8]]) -> Report {
        let (mut parser, mut report) = (Parser::default(), Report::default());
        pieces.iter().for_each(|piece| parser.feed(piece, &mut report));
        report
    }

    #[test]
    fn the_highest_code_of_a_batch_counts() {
        assert_eq!(parse(&[b"0\n3\n1\n"]).worst, Some(3));
    }

    #[test]
    fn a_line_may_arrive_in_pieces() {
        assert_eq!(parse(&[b"1", b"2", b"\n0"]).worst, Some(12));
        assert_eq!(parse(&[b"rea", b"dy\n"]), Report { ready: true, ..Report::default() });
    }

    #[test]
    fn an_unfinished_line_tells_nothing() {
        assert!(parse(&[b"7"]).is_empty());
    }

    #[test]
    fn what_is_not_a_code_is_counted_and_dropped() {
        let report = parse(&[b"-1\n\n+2\nx\n99999999999\n", &[b'1'; 5000], b"\n0\n"]);
        assert_eq!(report, Report { worst: Some(0), ready: false, malformed: 6 });
    }

    proptest! {
        #[test]
        fn cutting_a_stream_anywhere_changes_nothing(
            codes in prop::collection::vec(any::<u32>(), 1..20), cut in any::<prop::sample::Index>()
        ) {
            let stream: Vec<u8> = codes.iter().flat_map(|code| line(*code)).collect();
            let (head, tail) = stream.split_at(cut.index(stream.len()));
            prop_assert_eq!(parse(&[head, tail]), parse(&[&stream]));
            prop_assert_eq!(parse(&[&stream]).worst, codes.into_iter().max());
        }
    }
}
