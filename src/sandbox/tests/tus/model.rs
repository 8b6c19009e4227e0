//! Random requests against a model of the two offsets.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use reqwest::Method;

use super::STEP;
use crate::sandbox::tests::support::{Bench, RECIPIENT, eventually, send};

const LENGTH: u64 = 12;

#[derive(Debug, Clone)]
enum Step {
    Create,
    /// At the accepted offset plus so many bytes.
    Patch {
        beside: i64,
        length: u64,
    },
    /// At the accepted offset; the client goes after so many bytes, of which some may be missing.
    Cut {
        sent: u64,
        missing: u64,
    },
    Head,
    Delete,
    Time,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Create),
        6 => (1_u64..6).prop_map(|length| Step::Patch { beside: 0, length }),
        2 => (-3_i64..14, 0_u64..6).prop_map(|(beside, length)| Step::Patch { beside, length }),
        3 => (1_u64..4, 0_u64..3).prop_map(|(sent, missing)| Step::Cut { sent, missing }),
        2 => Just(Step::Head),
        1 => Just(Step::Delete),
        4 => Just(Step::Time),
    ]
}

/// An upload as the cache knows it.
#[derive(Debug, Default)]
struct Known {
    length: u64,
    accepted: u64,
    stored: u64,
    chunks: u64,
}

#[derive(Debug, Default)]
struct Model {
    known: Option<Known>,
    pending: Vec<(u64, Vec<u8>)>,
    blocks: BTreeMap<u64, Vec<u8>>,
    written: u8,
}

impl Model {
    fn left(&self) -> u64 {
        self.blocks.values().map(|block| block.len() as u64).sum()
    }

    fn length(&self) -> Option<u64> {
        let left = (self.left() > 0).then(|| self.left());
        self.known.as_ref().map(|known| known.length).or(left)
    }

    fn accepted(&self) -> u64 {
        self.known.as_ref().map_or(0, |known| known.accepted)
    }

    fn durable(&self) -> u64 {
        if self.left() > 0 { self.left() } else { self.known.as_ref().map_or(0, |known| known.stored) }
    }

    fn content(&mut self, length: u64) -> Vec<u8> {
        // A character, as requests that are cut are written as text.
        self.written = (self.written + 1) % 128;
        vec![self.written; usize::try_from(length).unwrap()]
    }

    /// The status of a PATCH, its offset or text.
    fn patch(&mut self, offset: u64, content: &[u8]) -> (u16, String) {
        let Some(length) = self.length() else { return (500, String::new()) };
        if offset >= length {
            return (204, length.to_string());
        }
        let accepted = self.accepted();
        if offset != accepted {
            let text =
                format!("Offset does not match file. File offset: {accepted}. Request offset: {offset}");
            return (409, text);
        }
        let size = content.len() as u64;
        if size > length - offset {
            return (413, "Request contains more data than the file's upload length".to_owned());
        }
        if size == 0 {
            return (204, offset.to_string());
        }
        let Some(known) = &mut self.known else {
            self.known = Some(Known { length, ..Known::default() });
            return (400, "Upload offset conflict".to_owned());
        };
        known.accepted += size;
        self.pending.push((known.chunks, content.to_vec()));
        known.chunks += 1;
        (204, (offset + size).to_string())
    }

    /// What arrives counts; what is not all of a chunk is never stored.
    fn cut(&mut self, content: &[u8], missing: u64) -> Option<u64> {
        let known = self.known.as_mut()?;
        let size = content.len() as u64;
        if size + missing > known.length - known.accepted {
            return None;
        }
        known.accepted += size;
        if missing == 0 {
            self.pending.push((known.chunks, content.to_vec()));
        }
        known.chunks += 1;
        Some(known.accepted)
    }

    fn time(&mut self) {
        for (index, content) in self.pending.drain(..) {
            if let Some(known) = &mut self.known {
                known.stored += content.len() as u64;
            }
            self.blocks.insert(index, content);
        }
    }

    fn is_complete(&self) -> bool {
        self.known.as_ref().is_some_and(|it| it.accepted >= it.length && it.stored >= it.length)
    }
}

async fn run(bench: &Bench, steps: Vec<Step>) {
    let (id, path) = Box::pin(bench.begin(LENGTH, |_| {})).await;
    let mut model = Model { known: Some(Known { length: LENGTH, ..Known::default() }), ..Model::default() };
    let staged = bench.sandbox.dir().join("tus").join(&id);
    let waiting = || {
        let files = std::fs::read_dir(&staged).into_iter().flatten();
        files.filter(|it| it.as_ref().unwrap().file_name().to_str().unwrap().starts_with("chunk")).count()
    };
    for step in steps {
        match &step {
            Step::Create => {
                assert_eq!(bench.create(&path, LENGTH).await.status, 201);
                model.known = Some(Known { length: LENGTH, ..Known::default() });
            }
            Step::Patch { beside, length } => {
                let offset = model.accepted().saturating_add_signed(*beside);
                let content = model.content(*length);
                let (status, wanted) = model.patch(offset, &content);
                let reply = bench.patch(&path, offset, content).await;
                assert_eq!(reply.status, status, "{step:?} {}: {model:?}", reply.text());
                match status {
                    204 => assert_eq!(reply.header("Upload-Offset"), Some(wanted.as_str()), "{model:?}"),
                    500 => {}
                    _ => assert!(reply.text().starts_with(&wanted), "{}: {model:?}", reply.text()),
                }
            }
            Step::Cut { sent, missing } => {
                let offset = model.accepted();
                let content = model.content(*sent);
                if let Some(accepted) = model.cut(&content, *missing) {
                    let announced = content.len() + usize::try_from(*missing).unwrap();
                    let content = String::from_utf8(content).unwrap();
                    bench.cut(&path, offset, announced, &content).await;
                    bench.until_accepted(&path, accepted).await;
                }
            }
            Step::Head => {
                let reply = bench.head(&path).await;
                let wanted = model.length().map(|length| (length, model.durable()));
                assert_eq!(reply.status, if wanted.is_some() { 200 } else { 500 }, "{model:?}");
                let shown = reply.number("Upload-Length").zip(reply.number("Upload-Offset"));
                assert_eq!(shown, wanted, "{model:?}");
            }
            Step::Delete => {
                let status = send(bench.tus(Method::DELETE, &path)).await.status;
                assert_eq!(status, if model.length().is_some() { 204 } else { 404 }, "{model:?}");
                model.known = None;
            }
            Step::Time => {
                bench.clock.advance(STEP);
                model.time();
                eventually(|| waiting() == 0, || format!("the chunks: {model:?}")).await;
                // The files are there a moment before the offset is.
                bench.until_stored(&path, model.length().map(|_| model.durable())).await;
            }
        }
        if model.is_complete() {
            return finish(bench, &id, model).await;
        }
    }
}

/// All blocks together must have the very length of the file.
async fn finish(bench: &Bench, id: &str, mut model: Model) {
    // What is still waiting is stored before anything is joined.
    model.time();
    let length = model.length().unwrap();
    if model.left() == length {
        bench.run_until(id, "Published").await;
        let content: Vec<u8> = model.blocks.values().flatten().copied().collect();
        assert_eq!(bench.download(RECIPIENT, id, None).await.body, content, "{model:?}");
    } else {
        bench.run(3).await;
        assert_eq!(bench.status(id).await, "UploadStarted", "{model:?}");
    }
}

#[test]
fn requests_in_any_order_do_what_the_model_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bench = runtime.block_on(Bench::start());
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&prop::collection::vec(step(), 1..30), |steps| {
            runtime.block_on(run(&bench, steps));
            Ok(())
        })
        .unwrap();
    runtime.block_on(async move { drop(bench) });
}
