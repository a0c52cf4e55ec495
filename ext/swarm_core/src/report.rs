//! The wire format in which a node tells how it is.
//!
//! A node writes lines into its report pipe: a decimal code (0 is healthy, above 0 is a reason to be replaced), the word
//! `ready`, once it has booted, or text for people: `died`, with what was raised, and `trace`, with the backtrace of a
//! thread. A newline inside a text travels as [`NEWLINE`]. A line may arrive in pieces, and many lines at once. Nobody
//! answers, so a node never waits for its supervisor.

/// The word of a process's first line, which has its pid. It is for a parent that has lost the pid; others pass it over.
pub const BORN: &str = "born";

/// What stands for a newline inside a text: ASCII's record separator.
pub const NEWLINE: char = '\u{1e}';

/// The longest line that is taken: what a pipe takes at once or not at all. A longer one is cut.
const LONGEST: usize = 4096;

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

/// What a node has said for people to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Words {
    /// The exception that ends it.
    Died(String),
    /// What one of its threads is doing.
    Trace(String),
}

/// Puts lines together out of the pieces in which a pipe gives them.
#[derive(Debug, Default)]
pub struct Parser {
    partial: Vec<u8>,
}

impl Parser {
    /// Takes what was read from the pipe and adds what it tells to `report` and `words`.
    pub fn feed(&mut self, bytes: &[u8], report: &mut Report, words: &mut Vec<Words>) {
        for byte in bytes {
            if *byte == b'\n' {
                read_line(&self.partial, report, words);
                self.partial.clear();
            } else if self.partial.len() < LONGEST {
                self.partial.push(*byte);
            }
        }
    }
}

fn read_line(line: &[u8], report: &mut Report, words: &mut Vec<Words>) {
    let line = String::from_utf8_lossy(line);
    let (word, text) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    let text = || text.replace(NEWLINE, "\n");
    match word {
        "ready" => report.ready = true,
        BORN => {}
        "died" => words.push(Words::Died(text())),
        "trace" => words.push(Words::Trace(text())),
        code => match code.parse::<u32>() {
            Ok(code) if line.starts_with(|first: char| first.is_ascii_digit()) => {
                report.worst = report.worst.max(Some(code));
            }
            _ => report.malformed += 1,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hear(pieces: &[&[u8]]) -> (Report, Vec<Words>) {
        let (mut parser, mut report, mut words) = (Parser::default(), Report::default(), Vec::new());
        pieces.iter().for_each(|piece| parser.feed(piece, &mut report, &mut words));
        (report, words)
    }

    fn parse(pieces: &[&[u8]]) -> Report {
        hear(pieces).0
    }

    fn line(code: u32) -> Vec<u8> {
        format!("{code}\n").into_bytes()
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

    #[test]
    fn what_a_node_says_for_people_is_told_apart_from_its_health() {
        let (report, words) = hear(&["died ArgumentError: no\u{1e}app.rb:1\ntrace main\n3\n".as_bytes()]);
        let died = Words::Died("ArgumentError: no\napp.rb:1".into());
        assert_eq!(words, [died, Words::Trace("main".into())]);
        assert_eq!(report, Report { worst: Some(3), ..Report::default() });
    }

    #[test]
    fn a_text_without_end_is_cut() {
        let (_, words) = hear(&[b"died ", &[b'x'; 100_000], b"\n"]);
        assert_eq!(words, [Words::Died("x".repeat(4096 - 5))]);
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
