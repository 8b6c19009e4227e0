//! The side that is asked: one request from standard input, one program, one answer. It serves its own user and root
//! alone, and what it is sent is not trusted in any other way either.

use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use rustix::fs::FileType;
use rustix::process::{Uid, geteuid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};

use super::program::{Surroundings, run};
use super::{Answer, Ended, LONGEST_REQUEST, Request, read_line, to_line};
use crate::seams;

/// How long a request may take to come. Whoever asks has it ready; connections are few, and none is for keeping.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Standard input and output cannot be used.
    #[error("cannot use standard input and output")]
    Io(#[source] io::Error),
    /// Nobody could stop the program.
    #[error("cannot catch signals")]
    Signals(#[source] io::Error),
    /// Somebody else asks.
    #[error("user {0} may not have programs run here")]
    Stranger(u32),
    /// No request came.
    #[error("no request came within {PATIENCE:?}")]
    Silent,
    /// What came is longer than any request.
    #[error("the request has more than {LONGEST_REQUEST} bytes")]
    TooLong,
    /// What came is no request.
    #[error("what came on standard input is not a request")]
    Malformed(#[source] serde_json::Error),
    /// Whoever asked has gone.
    #[error("the one who asked has gone: the program was killed")]
    HungUp,
    /// A signal came.
    #[error("stopped by a signal: the program was killed")]
    Stopped,
}

impl Error {
    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Io(_) | Self::Signals(_) => "see what the system says",
            Self::Stranger(_) => "run service and hook service as one user: User= in both units",
            Self::Silent | Self::TooLong | Self::Malformed(_) => {
                "leave this command to systemd (formidlingd-hook.socket), and its socket to formidlingd"
            }
            Self::HungUp | Self::Stopped => "nothing; the program is run again",
        }
    }
}

/// Serves the one request of standard input, and answers on standard output.
///
/// Where standard input is a socket, its other end must belong to this process's user or root, and stay until the
/// answer: when it goes, the program is killed.
pub async fn serve() -> Result<(), Error> {
    let stopped = stopped().map_err(Error::Signals)?;
    let served = async {
        match socket().map_err(Error::Io)? {
            Some(stream) => {
                let peer = Uid::from_raw(stream.peer_cred().map_err(Error::Io)?.uid());
                serve_socket(stream, peer, geteuid()).await
            }
            None => serve_pipe().await,
        }
    };
    tokio::select! {
        outcome = served => outcome,
        () = stopped => Err(Error::Stopped),
    }
}

/// Resolves when somebody wants this process to end. Until then the program has to be killed before.
fn stopped() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Standard input, if it is a socket; standard output is the same then.
fn socket() -> io::Result<Option<UnixStream>> {
    let input = io::stdin();
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&input)?.st_mode);
    if kind != FileType::Socket {
        return Ok(None);
    }
    let stream = StdStream::from(input.as_fd().try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream).map(Some)
}

async fn serve_socket(mut stream: UnixStream, peer: Uid, own: Uid) -> Result<(), Error> {
    let outcome =
        if may_ask(peer, own) { run_asked(&mut stream).await } else { Err(Error::Stranger(peer.as_raw())) };
    if matches!(outcome, Err(Error::HungUp)) {
        return Err(Error::HungUp);
    }
    let line = answer(&outcome)?;
    // Where nobody reads any more, the outcome still says what was the matter.
    let sent = stream.write_all(&line).await;
    outcome?;
    sent.map_err(|_| Error::HungUp)
}

async fn run_asked(stream: &mut UnixStream) -> Result<Ended, Error> {
    let line = tokio::time::timeout(PATIENCE, read_line(&mut *stream, LONGEST_REQUEST)).await;
    let request = parse(line.map_err(|_elapsed| Error::Silent)?.map_err(Error::Io)?)?;
    tokio::select! {
        ended = run(&request, Surroundings::Output) => Ok(ended),
        () = hung_up(stream) => Err(Error::HungUp),
    }
}

/// The program runs with our rights, so nobody else may choose it.
fn may_ask(peer: Uid, own: Uid) -> bool {
    peer == own || peer.is_root()
}

/// Resolves when the other end has gone. What it says before is of no interest.
async fn hung_up(stream: &mut UnixStream) {
    let mut more = [0; 512];
    while stream.read(&mut more).await.is_ok_and(|bytes| bytes > 0) {}
}

/// Serves somebody who tries it by hand, or another program that is not at the other end of a socket.
async fn serve_pipe() -> Result<(), Error> {
    let line = seams::blocking(|| {
        let mut line = Vec::new();
        let longest = LONGEST_REQUEST.saturating_add(1);
        io::stdin().lock().take(longest).read_until(b'\n', &mut line)?;
        Ok((line.len() as u64 <= LONGEST_REQUEST).then_some(line))
    });
    let outcome = match line.await.map_err(Error::Io).and_then(parse) {
        Ok(request) => Ok(run(&request, Surroundings::Output).await),
        Err(error) => Err(error),
    };
    let line = answer(&outcome)?;
    let sent = seams::blocking(move || io::stdout().write_all(&line)).await;
    outcome?;
    sent.map_err(Error::Io)
}

fn parse(line: Option<Vec<u8>>) -> Result<Request, Error> {
    serde_json::from_slice(&line.ok_or(Error::TooLong)?).map_err(Error::Malformed)
}

/// The line that answers.
fn answer(outcome: &Result<Ended, Error>) -> Result<Vec<u8>, Error> {
    let answer = match outcome {
        Ok(ended) => Answer::Ran(ended.clone()),
        Err(error) => Answer::Refused(crate::route::text_for_people(error)),
    };
    to_line(&answer).map_err(Error::Io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_is_not_served() {
        let (own, other) = (Uid::from_raw(990), Uid::from_raw(1000));
        assert!(may_ask(own, own) && may_ask(Uid::ROOT, own));
        assert!(!may_ask(other, own) && !may_ask(other, Uid::ROOT));
    }

    fn own() -> Uid {
        Uid::from_raw(990)
    }

    /// What the service, which is of user 990, answers to some bytes of a user.
    async fn answered(bytes: &[u8], peer: Uid) -> (Result<(), Error>, Answer) {
        let (theirs, mut ours) = UnixStream::pair().unwrap();
        ours.write_all(bytes).await.unwrap();
        let outcome = serve_socket(theirs, peer, own()).await;
        let line = read_line(&mut ours, 1 << 20).await.unwrap().unwrap();
        (outcome, serde_json::from_slice(&line).unwrap())
    }

    #[tokio::test]
    async fn garbage_is_refused_with_a_reason() {
        for garbage in ["GET / HTTP/1.1\n", "{\"program\":\"/bin/true\"}\n", "\n", "[]\n", "\u{0}\n"] {
            let (outcome, answer) = answered(garbage.as_bytes(), own()).await;
            assert!(matches!(outcome, Err(Error::Malformed(_))), "{garbage:?}: {outcome:?}");
            assert!(matches!(answer, Answer::Refused(_)), "{garbage:?}: {answer:?}");
        }
    }

    #[tokio::test]
    async fn a_program_is_run_for_its_own_user_and_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        let ran = dir.path().join("ran");
        let request = Request {
            program: "/bin/sh".into(),
            arguments: vec![
                "-c".into(),
                "echo x > \"$1\"; exit 3".into(),
                "sh".into(),
                ran.to_str().unwrap().into(),
            ],
            environment: [].into(),
            limit_ms: 60_000,
        };
        let line = to_line(&request).unwrap();
        let (outcome, answer) = answered(&line, Uid::from_raw(1000)).await;
        assert!(matches!(outcome, Err(Error::Stranger(1000))), "{outcome:?}");
        assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
        assert!(!ran.exists());
        for peer in [own(), Uid::ROOT] {
            let (outcome, answer) = answered(&line, peer).await;
            assert!(outcome.is_ok(), "{outcome:?}");
            assert_eq!(answer, Answer::Ran(Ended::Exited(3)));
            std::fs::remove_file(&ran).unwrap();
        }
    }
}
