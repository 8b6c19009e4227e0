//! A network that breaks: a loopback proxy between the program and the sandbox.
//!
//! One connection carries one request, which the proxy sees to by asking both ends to close it afterwards. Each
//! rule waits for the n-th request of a method and path, and breaks that one.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What goes wrong.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Altinn gets this many bytes of the body, then both ends lose the connection.
    CutRequest { after: usize },
    /// Altinn gets everything and answers; the answer never comes.
    LoseAnswer,
    /// This many bytes of the answer's body come, then both ends lose the connection.
    CutAnswer { after: usize },
    /// Something on the way answers, and Altinn hears nothing.
    Answer { status: u16, headers: &'static str },
    /// The same, with a body.
    Say { status: u16, headers: &'static str, body: &'static str },
    /// The request is taken and never answered, for as long as the program cares to wait.
    Silence,
}

/// When something goes wrong.
#[derive(Debug)]
pub(crate) struct Rule {
    method: &'static str,
    path_ends: &'static str,
    seen: AtomicUsize,
    from: usize,
    times: usize,
    fault: Fault,
}

impl Rule {
    /// The first request of that method whose path ends so (a query is not looked at); `/*` at the end stands for
    /// one more part, whatever it is.
    pub(crate) fn first(method: &'static str, path_ends: &'static str, fault: Fault) -> Self {
        Self { method, path_ends, seen: AtomicUsize::new(0), from: 1, times: 1, fault }
    }

    /// That many requests in a row.
    pub(crate) fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }
}

#[derive(Debug)]
struct State {
    upstream: String,
    rules: Mutex<Vec<Arc<Rule>>>,
    heads: Mutex<Vec<String>>,
    broken: AtomicUsize,
    down: AtomicBool,
    stopped: AtomicBool,
}

/// The proxy; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    listener: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy to `http://HOST:PORT`.
    pub(crate) fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            upstream: upstream.strip_prefix("http://").unwrap().to_owned(),
            rules: Mutex::default(),
            heads: Mutex::default(),
            broken: AtomicUsize::new(0),
            down: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        let listener = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                if shared.down.load(Ordering::SeqCst) {
                    continue;
                }
                let state = Arc::clone(&shared);
                // A connection that breaks is what the proxy is for.
                std::thread::spawn(move || drop(serve(&state, &stream)));
            }
        });
        Self { address, state, listener: Some(listener) }
    }

    /// Its address, `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a rule.
    pub(crate) fn rule(&self, rule: Rule) {
        self.state.rules.lock().unwrap().push(Arc::new(rule));
    }

    /// Forgets all rules.
    pub(crate) fn clear(&self) {
        self.state.rules.lock().unwrap().clear();
    }

    /// How many requests have been broken.
    pub(crate) fn broken(&self) -> usize {
        self.state.broken.load(Ordering::SeqCst)
    }

    /// The heads of all requests, with their tokens.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.state.heads.lock().unwrap().clone()
    }

    /// Whether new connections are closed at once.
    pub(crate) fn set_down(&self, down: bool) {
        self.state.down.store(down, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        // The listener sits in accept until somebody comes.
        drop(TcpStream::connect(self.address));
        if let Some(listener) = self.listener.take() {
            drop(listener.join());
        }
    }
}

fn serve(state: &State, client: &TcpStream) -> io::Result<()> {
    let (head, begun) = read_head(client)?;
    state.heads.lock().unwrap().push(head.clone());
    let fault = fault(state, &head);
    if let Some(fault) = &fault {
        match *fault {
            Fault::Answer { status, headers } => return say(state, client, status, headers, ""),
            Fault::Say { status, headers, body } => return say(state, client, status, headers, body),
            Fault::Silence => {
                state.broken.fetch_add(1, Ordering::SeqCst);
                // Until the program gives up and closes.
                io::copy(&mut &*client, &mut io::sink())?;
                return Ok(());
            }
            _ => {}
        }
    }
    let upstream = TcpStream::connect(&state.upstream)?;
    (&upstream).write_all(closing(&head).as_bytes())?;
    let limits = match fault {
        Some(Fault::CutRequest { after }) => (after, usize::MAX),
        Some(Fault::CutAnswer { after }) => (usize::MAX, after),
        Some(Fault::LoseAnswer) => (usize::MAX, 0),
        _ => (usize::MAX, usize::MAX),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let passed = pass(&begun, client, &upstream, limits.0);
            if matches!(passed, Ok(Passed::Cut)) {
                state.broken.fetch_add(1, Ordering::SeqCst);
                close(client, &upstream);
            } else {
                // The client is done, or gone: what it sent has arrived, and no more will.
                drop(upstream.shutdown(Shutdown::Write));
            }
        });
        let answered = answer(&upstream, client, limits.1);
        if matches!(answered, Ok(Passed::Cut)) {
            state.broken.fetch_add(1, Ordering::SeqCst);
        }
        close(client, &upstream);
    });
    Ok(())
}

fn say(state: &State, mut client: &TcpStream, status: u16, headers: &str, body: &str) -> io::Result<()> {
    state.broken.fetch_add(1, Ordering::SeqCst);
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} Trouble\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    client.write_all(answer.as_bytes())?;
    client.shutdown(Shutdown::Write)?;
    io::copy(&mut client, &mut io::sink())?;
    Ok(())
}

fn close(one: &TcpStream, other: &TcpStream) {
    drop(one.shutdown(Shutdown::Both));
    drop(other.shutdown(Shutdown::Both));
}

/// The head of a message, with its last empty line, and what came behind it.
fn read_head(mut from: &TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut block = [0; 16 * 1024];
    loop {
        if let Some(end) = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        let read = from.read(&mut block)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&block[..read]);
    }
}

/// The head, with the wish that the connection be closed after this message.
fn closing(head: &str) -> String {
    let mut lines: Vec<&str> =
        head.split("\r\n").filter(|line| !line.to_lowercase().starts_with("connection:")).collect();
    lines.insert(1, "Connection: close");
    lines.join("\r\n")
}

fn fault(state: &State, head: &str) -> Option<Fault> {
    let mut words = head.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let path = target.split('?').next()?;
    let rules = state.rules.lock().unwrap();
    let mut fault = None;
    for rule in rules.iter().filter(|rule| rule.method == method && ends(path, rule.path_ends)) {
        let seen = rule.seen.fetch_add(1, Ordering::SeqCst) + 1;
        if seen >= rule.from && seen < rule.from + rule.times {
            fault = Some(rule.fault.clone());
        }
    }
    fault
}

fn ends(path: &str, end: &str) -> bool {
    match end.strip_suffix("/*") {
        Some(end) => path.rsplit_once('/').is_some_and(|(parent, _)| parent.ends_with(end)),
        None => path.ends_with(end),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Passed {
    All,
    Cut,
}

/// Passes bytes on to the end, or until the limit is reached.
fn pass(begun: &[u8], mut from: &TcpStream, mut to: &TcpStream, limit: usize) -> io::Result<Passed> {
    let mut left = limit;
    let mut block = vec![0; 64 * 1024];
    let mut ready = begun.to_vec();
    loop {
        let part = ready.len().min(left);
        to.write_all(&ready[..part])?;
        left -= part;
        if left == 0 {
            return Ok(Passed::Cut);
        }
        let read = from.read(&mut block)?;
        if read == 0 {
            return Ok(Passed::All);
        }
        ready = block[..read].to_vec();
    }
}

/// Passes an answer on. Nothing of it is passed on when the limit is nought.
fn answer(upstream: &TcpStream, mut client: &TcpStream, limit: usize) -> io::Result<Passed> {
    let (head, begun) = read_head(upstream)?;
    if limit == 0 {
        // Altinn is done only when it has said everything.
        io::copy(&mut &*upstream, &mut io::sink())?;
        return Ok(Passed::Cut);
    }
    client.write_all(closing(&head).as_bytes())?;
    pass(&begun, upstream, client, limit)
}
