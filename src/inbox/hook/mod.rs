//! The hook service: the operator's programs, run outside the hardened unit, which some of them cannot live in.
//!
//! systemd listens on a socket and starts `formidlingd hook` for each connection, with the connection as its standard
//! input and output. One line of JSON goes in, a [`Request`]; one comes out, an [`Answer`] that says how the program
//! ended. A connection that breaks ends the program: whoever asked does not know of its end, and asks again.
//!
//! [`program`] runs a program, here and where there is no hook service; [`mod@ask`] is the side that asks, [`serve()`] the
//! one that is asked. Nothing here knows anything about transfers.

mod ask;
mod program;
mod serve;

pub(super) use ask::ask;
pub(super) use program::{Surroundings, run};
pub use serve::{Error, serve};

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// The bytes of the longest request. Linux takes 2 MiB of arguments and environment at most (execve(2), with the usual
/// stack of 8 MiB), and what is asked for here has a few paths.
const LONGEST_REQUEST: u64 = 1024 * 1024;

/// The bytes of the longest answer; it holds a number, or one sentence of the system's.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// A program to run. Members may be added; those that a reader does not know are passed over, since the two ends need
/// not be of one version while an installation is upgraded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The absolute path of the program; there is no shell.
    pub program: String,
    /// Its arguments, as they are.
    pub arguments: Vec<String>,
    /// What is added to its environment.
    pub environment: BTreeMap<String, String>,
    /// Milliseconds that it may take.
    pub limit_ms: u64,
}

impl Request {
    fn limit(&self) -> Duration {
        Duration::from_millis(self.limit_ms)
    }
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The program was run, or should have been.
    Ran(Ended),
    /// The request was not understood, or may not be made; the reason.
    Refused(String),
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal of this number.
    Signalled(i32),
    /// By our hand, with all that it had started, since it took too long.
    TimedOut,
    /// It could not be run; the reason.
    NotRun(String),
}

/// Reads a line of at most `longest` bytes, without its end; `None` where it is longer. What is behind it may be
/// read and lost.
async fn read_line(input: impl AsyncRead + Unpin, longest: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    // One byte more for the end of the line.
    let mut input = BufReader::new(input).take(longest.saturating_add(1));
    input.read_until(b'\n', &mut line).await?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok((u64::try_from(line.len()).unwrap_or(u64::MAX) <= longest).then_some(line))
}

/// A value as a line of JSON.
fn to_line(value: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_speak_one_language() {
        let request = Request {
            program: "/usr/local/bin/import".into(),
            arguments: vec!["/srv/in/a \"b\"\n.txt".into()],
            environment: [("FORMIDLINGD_ROUTE".into(), "reports".into())].into(),
            limit_ms: 300_000,
        };
        let line = to_line(&request).unwrap();
        let expected = concat!(
            r#"{"program":"/usr/local/bin/import","arguments":["/srv/in/a \"b\"\n.txt"],"#,
            r#""environment":{"FORMIDLINGD_ROUTE":"reports"},"limit_ms":300000}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(line.clone()).unwrap(), expected);
        assert_eq!(serde_json::from_slice::<Request>(&line).unwrap(), request);
        let answers = [
            (Answer::Ran(Ended::Exited(0)), r#"{"ran":{"exited":0}}"#),
            (Answer::Ran(Ended::Signalled(9)), r#"{"ran":{"signalled":9}}"#),
            (Answer::Ran(Ended::TimedOut), r#"{"ran":"timed_out"}"#),
            (Answer::Ran(Ended::NotRun("why".into())), r#"{"ran":{"not_run":"why"}}"#),
            (Answer::Refused("why".into()), r#"{"refused":"why"}"#),
        ];
        for (answer, text) in answers {
            assert_eq!(serde_json::to_string(&answer).unwrap(), text);
            assert_eq!(serde_json::from_str::<Answer>(text).unwrap(), answer);
        }
    }

    #[tokio::test]
    async fn a_line_is_read_to_its_end_and_no_further_than_it_may_be() {
        let read = async |text: &str| read_line(text.as_bytes(), 4).await.unwrap();
        assert_eq!(read("abcd\nefg").await.as_deref(), Some(b"abcd".as_slice()));
        assert_eq!(read("ab").await.as_deref(), Some(b"ab".as_slice()));
        assert_eq!(read("").await.as_deref(), Some(b"".as_slice()));
        assert_eq!(read("abcde\n").await, None);
        assert_eq!(read("abcdefghijkl").await, None);
        let endless = tokio::io::repeat(b'x');
        assert_eq!(read_line(endless, 4).await.unwrap(), None);
    }
}
