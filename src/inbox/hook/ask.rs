//! The side that asks: a request goes to the socket of the hook service, and how the program ended comes back.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::{Answer, Ended, LONGEST_ANSWER, LONGEST_REQUEST, Request, read_line, to_line};

/// How much longer than the program's own time an answer is waited for: the service has to be started, and a machine
/// may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why it is not known how the program ended.
#[derive(Debug, thiserror::Error)]
pub(in crate::inbox) enum AskError {
    #[error("cannot connect to the hook service at {path:?}")]
    Connect {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the connection to the hook service at {path:?} broke")]
    Broken {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the hook service at {path:?} ended without an answer")]
    NoAnswer { path: PathBuf },
    #[error("the hook service at {path:?} has not answered within {limit:?}")]
    Silent { path: PathBuf, limit: Duration },
    #[error("the answer of the hook service at {path:?} makes no sense")]
    Nonsense {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the hook service at {path:?} refused: {reason}")]
    Refused { path: PathBuf, reason: String },
}

impl AskError {
    /// What to do.
    pub(in crate::inbox) fn remedy(&self) -> &'static str {
        match self {
            Self::Connect { source, .. } => match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    "start it with `systemctl enable --now formidlingd-hook.socket`, or correct hooks.socket; the \
                     program is run then, and the file stays as it was delivered"
                }
                io::ErrorKind::PermissionDenied => {
                    "let the service's user connect to it: SocketUser= and SocketMode= of formidlingd-hook.socket"
                }
                _ => "see `systemctl status formidlingd-hook.socket`; it is tried again",
            },
            Self::Broken { .. }
            | Self::NoAnswer { .. }
            | Self::Silent { .. }
            | Self::Nonsense { .. }
            | Self::Refused { .. } => {
                "see `journalctl --unit 'formidlingd-hook@*'`; the program is run again, and the file stays as it was \
                 delivered"
            }
        }
    }
}

/// Has the service behind `socket` run a program. If the future is dropped, the connection breaks, and the service
/// kills the program.
pub(in crate::inbox) async fn ask(socket: &Path, request: &Request) -> Result<Ended, AskError> {
    let path = || socket.to_owned();
    let broken = |source| AskError::Broken { path: path(), source };
    let line = to_line(request).map_err(broken)?;
    if u64::try_from(line.len()).unwrap_or(u64::MAX) > LONGEST_REQUEST {
        let reason = format!("its arguments and environment take more than {LONGEST_REQUEST} bytes");
        return Ok(Ended::NotRun(reason));
    }
    let limit = request.limit().saturating_add(PATIENCE);
    let exchange = async {
        let stream = UnixStream::connect(socket).await;
        let mut stream = stream.map_err(|source| AskError::Connect { path: path(), source })?;
        stream.write_all(&line).await.map_err(broken)?;
        read_line(&mut stream, LONGEST_ANSWER).await.map_err(broken)
    };
    let Ok(answer) = tokio::time::timeout(limit, exchange).await else {
        return Err(AskError::Silent { path: path(), limit });
    };
    match answer?.as_deref() {
        Some([]) => Err(AskError::NoAnswer { path: path() }),
        answer => match serde_json::from_slice(answer.unwrap_or_default()) {
            Ok(Answer::Ran(ended)) => Ok(ended),
            Ok(Answer::Refused(reason)) => Err(AskError::Refused { path: path(), reason }),
            Err(error) => Err(AskError::Nonsense { path: path(), source: error.into() }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(limit_ms: u64) -> Request {
        Request { program: "/bin/true".into(), arguments: Vec::new(), environment: [].into(), limit_ms }
    }

    /// What is said of a service that answers so and hangs up.
    async fn asked(answer: &[u8]) -> Result<Ended, AskError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hook.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let line = read_line(&mut stream, LONGEST_REQUEST).await.unwrap().unwrap();
            assert_eq!(serde_json::from_slice::<Request>(&line).unwrap(), request(1000));
            stream.write_all(answer).await.unwrap();
        };
        let request = request(1000);
        tokio::join!(ask(&path, &request), serve).0
    }

    #[tokio::test]
    async fn an_answer_is_taken_for_what_it_is() {
        assert_eq!(asked(b"{\"ran\":{\"exited\":3}}\n").await.unwrap(), Ended::Exited(3));
        assert!(matches!(asked(b"").await, Err(AskError::NoAnswer { .. })));
        assert!(matches!(asked(b"{\"ran\":{\"exi").await, Err(AskError::Nonsense { .. })));
        assert!(matches!(asked(&vec![b'x'; 70_000]).await, Err(AskError::Nonsense { .. })));
        let refused = asked(b"{\"refused\":\"it is Sunday\"}\n").await.unwrap_err();
        assert!(refused.to_string().contains("it is Sunday"), "{refused}");
    }

    #[tokio::test]
    async fn a_service_that_is_not_there_is_told_from_one_that_broke() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hook.sock");
        for _ in ["no socket", "a socket that nobody listens on"] {
            let error = ask(&path, &request(1000)).await.unwrap_err();
            assert!(matches!(error, AskError::Connect { .. }), "{error:?}");
            assert!(error.remedy().contains("systemctl enable --now formidlingd-hook.socket"));
            drop(tokio::net::UnixListener::bind(&path));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_says_nothing_is_not_waited_for_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hook.sock");
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(ask(&path, &request(1000)).await, Err(AskError::Silent { .. })));
    }

    #[tokio::test]
    async fn what_no_service_would_read_is_not_sent() {
        let mut long = request(1000);
        long.arguments.push("x".repeat(1024 * 1024));
        assert!(matches!(ask(Path::new("/nowhere"), &long).await, Ok(Ended::NotRun(_))));
    }
}
