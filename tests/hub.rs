//! Downloading models from a hub on the loopback interface: real sockets, real ranges, real refusals.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::support::{Scratch, stderr, stdout, tiny_model};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A received request.
#[derive(Debug, Clone)]
struct Request {
    path: String,
    range: Option<u64>,
    token: Option<String>,
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// Cut the connection after this many bytes of the body.
    cut: Option<usize>,
    /// Keep it open instead, and send nothing more.
    stalls: bool,
}

impl Answer {
    fn ok(body: Vec<u8>) -> Self {
        Self { status: 200, headers: Vec::new(), body, cut: None, stalls: false }
    }

    fn refusal(status: u16, headers: Vec<(&'static str, String)>) -> Self {
        Self { status, headers, ..Self::ok(b"no".to_vec()) }
    }

    /// A file, from the byte in the request's range.
    fn file(body: &[u8], request: &Request) -> Self {
        match request.range {
            Some(start) => Self { status: 206, ..Self::ok(body[start as usize..].to_vec()) },
            None => Self::ok(body.to_vec()),
        }
    }
}

/// A server that answers by a function and records its requests.
struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn start(answer: impl Fn(&Request, usize) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            let count = AtomicUsize::new(0);
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                while let Some(request) = read_request(&stream) {
                    seen.lock().unwrap().push(request.clone());
                    let answer = answer(&request, count.fetch_add(1, Ordering::SeqCst));
                    if !send(&mut stream, &answer) {
                        break;
                    }
                }
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut request = Request { path, range: None, token: None };
    for line in lines {
        let line = line.ok()?;
        let (name, value) = match line.split_once(": ") {
            Some(pair) => pair,
            None => return Some(request),
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = value.strip_prefix("bytes=")?.trim_end_matches('-').parse().ok(),
            "authorization" => request.token = Some(value.to_owned()),
            _ => {}
        }
    }
    None
}

/// Whether the connection stays open.
fn send(stream: &mut TcpStream, answer: &Answer) -> bool {
    let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let sent = answer.cut.unwrap_or(answer.body.len());
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(b"\r\n");
    let _ = stream.write_all(&answer.body[..sent]);
    let _ = stream.flush();
    if answer.stalls {
        // The connection stays open for the rest of the test.
        std::mem::forget(stream.try_clone().unwrap());
    }
    answer.cut.is_none()
}

/// The files of a repository: the tiny model in two shards, and files that should not be downloaded.
struct Repository {
    files: Vec<(String, Vec<u8>)>,
}

impl Repository {
    fn new(scratch: &Scratch) -> Self {
        tiny_model(scratch);
        let read = |name: &str| std::fs::read(scratch.path().join("model").join(name)).unwrap();
        let mut files: Vec<(String, Vec<u8>)> = ["config.json", "tokenizer.json", "model.safetensors"]
            .map(|name| (name.to_owned(), read(name)))
            .into();
        std::fs::remove_dir_all(scratch.path().join("model")).unwrap();
        let stray = ["pytorch_model.bin", "original/consolidated.00.pth", "README.md", "../evil.json"];
        files.extend(stray.map(|name| (name.to_owned(), b"not for us".to_vec())));
        Self { files }
    }

    fn find(&self, name: &str) -> Option<&[u8]> {
        self.files.iter().find(|(known, _)| known == name).map(|(_, body)| body.as_slice())
    }

    fn description(&self) -> Answer {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let sibling = |(name, body): &(String, Vec<u8>)| {
            let git =
                Sha1::new().chain_update(format!("blob {}\0", body.len())).chain_update(body).finalize();
            let lfs = name.ends_with(".safetensors").then(
                || json!({ "sha256": hex(&Sha256::digest(body)), "size": body.len(), "pointerSize": 130 }),
            );
            json!({ "rfilename": name, "size": body.len(), "blobId": hex(&git), "lfs": lfs })
        };
        let siblings: Vec<_> = self.files.iter().map(sibling).collect();
        Answer::ok(json!({ "sha": COMMIT, "siblings": siblings }).to_string().into_bytes())
    }

    /// The usual answers.
    fn answer(&self, request: &Request) -> Answer {
        let path = request.path.split('?').next().unwrap();
        if path == "/api/models/org/tiny/revision/main" {
            return self.description();
        }
        let file = path.strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/"));
        match file.and_then(|name| self.find(name)) {
            Some(body) => Answer::file(body, request),
            None => Answer::refusal(404, vec![("X-Error-Code", "RepoNotFound".into())]),
        }
    }
}

fn pull(scratch: &Scratch, server: &Server, id: &str) -> std::process::Output {
    let mut command = scratch.command(&["model", "pull", id]);
    command.env("HF_ENDPOINT", &server.address).env("HF_HOME", scratch.path().join("hf"));
    command.env("HF_TOKEN", "hf_secret").output().unwrap()
}

fn snapshot(scratch: &Scratch) -> std::path::PathBuf {
    scratch.path().join("hf/hub/models--org--tiny/snapshots").join(COMMIT)
}

#[test]
fn a_transfer_that_brings_nothing_any_more_is_asked_for_again() {
    let scratch = Scratch::new();
    let repository = Repository::new(&scratch);
    let server = Server::start(move |request, count| {
        let answer = repository.answer(request);
        let stalls = request.path.contains("/resolve/") && request.range.is_none() && count == 1;
        if stalls { Answer { cut: Some(100), stalls, ..answer } } else { answer }
    });
    let mut command = scratch.command(&["model", "pull", "org/tiny"]);
    command.env("HF_ENDPOINT", &server.address).env("HF_HOME", scratch.path().join("hf"));
    let output = command.env("HF_HUB_DOWNLOAD_TIMEOUT", "0.2").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(server.requests().iter().any(|request| request.range == Some(100)), "{:?}", server.requests());
}

#[test]
fn a_blob_that_somebody_else_writes_is_waited_for() {
    let scratch = Scratch::new();
    let repository = Repository::new(&scratch);
    let weights = repository.find("model.safetensors").unwrap().to_vec();
    let hash = Sha256::digest(&weights).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let server = Server::start(move |request, _| repository.answer(request));
    // As Hugging Face's own client does.
    let folder = scratch.path().join("hf/hub");
    let lock = folder.join(".locks/models--org--tiny").join(format!("{hash}.lock"));
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let held = std::fs::File::create(&lock).unwrap();
    held.lock().unwrap();
    let mut command = scratch.command(&["model", "pull", "org/tiny"]);
    command.env("HF_ENDPOINT", &server.address).env("HF_HOME", scratch.path().join("hf"));
    let mut pull = command.spawn().unwrap();
    let downloads = || server.requests().iter().filter(|request| request.path.contains("/resolve/")).count();
    crate::lab::wait_until("the small files are there", || downloads() == 2);
    assert!(pull.try_wait().unwrap().is_none(), "it waits");
    let blob = folder.join("models--org--tiny/blobs").join(&hash);
    std::fs::write(&blob, &weights).unwrap();
    drop(held);
    assert!(pull.wait().unwrap().success());
    assert_eq!(downloads(), 2, "what the other one brought is not brought again");
}

#[test]
fn only_weights_configuration_and_tokenizer_come_and_a_second_pull_transfers_nothing() {
    let scratch = Scratch::new();
    let repository = Repository::new(&scratch);
    let server = Server::start(move |request, _| repository.answer(request));
    let output = pull(&scratch, &server, "org/tiny");
    assert!(output.status.success(), "{}", stderr(&output));
    let mut names: Vec<String> = std::fs::read_dir(snapshot(&scratch))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
    let before = server.requests().len();
    assert!(stdout(&pull(&scratch, &server, "org/tiny")).contains("0 B transferred"));
    assert_eq!(server.requests().len(), before + 1, "only the description is asked for again");
    // Both from the cache alone and by the name used in a sweep file.
    let mut show = scratch.command(&["model", "show", "org/tiny"]);
    let show = show.env("HF_HOME", scratch.path().join("hf")).env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert!(stdout(&show).contains("2 blocks of width 16"), "{}", stderr(&show));
}

#[test]
fn a_transfer_that_is_cut_off_goes_on_where_it_ended() {
    let scratch = Scratch::new();
    let repository = Repository::new(&scratch);
    let weights = repository.find("model.safetensors").unwrap().to_vec();
    let cuts = AtomicUsize::new(0);
    let server = Server::start(move |request, _| {
        let mut answer = repository.answer(request);
        if request.path.ends_with("model.safetensors") && cuts.fetch_add(1, Ordering::SeqCst) < 2 {
            answer.cut = Some(1000);
        }
        answer
    });
    let output = pull(&scratch, &server, "org/tiny");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(std::fs::read(snapshot(&scratch).join("model.safetensors")).unwrap(), weights);
    let ranges: Vec<_> = server.requests().into_iter().filter_map(|request| request.range).collect();
    assert_eq!(ranges, [1000, 2000]);
}

#[test]
fn a_file_with_another_hash_is_thrown_away() {
    let scratch = Scratch::new();
    let repository = Repository::new(&scratch);
    let server = Server::start(move |request, _| {
        let mut answer = repository.answer(request);
        if request.path.ends_with("model.safetensors") {
            answer.body[500] ^= 1;
        }
        answer
    });
    let output = pull(&scratch, &server, "org/tiny");
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).contains("the hub says"), "{}", stderr(&output));
    let blobs = scratch.path().join("hf/hub/models--org--tiny/blobs");
    let partial = std::fs::read_dir(blobs)
        .unwrap()
        .any(|entry| entry.unwrap().file_name().to_string_lossy().ends_with(".incomplete"));
    assert!(!partial);
    assert!(!snapshot(&scratch).join(".loragrid-complete").exists());
}

#[test]
fn a_redirect_is_followed_and_another_host_never_sees_the_token() {
    let scratch = Scratch::new();
    let repository = Repository::new(&scratch);
    let weights = repository.find("model.safetensors").unwrap().to_vec();
    let storage = Server::start(move |request, _| Answer::file(&weights, request));
    let elsewhere = storage.address.clone();
    let server = Server::start(move |request, _| {
        if request.path.ends_with("model.safetensors") {
            return Answer::refusal(302, vec![("Location", format!("{elsewhere}/blob?signature=1"))]);
        }
        repository.answer(request)
    });
    let output = pull(&scratch, &server, "org/tiny");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(server.requests().iter().all(|request| request.token.as_deref() == Some("Bearer hf_secret")));
    assert!(!storage.requests().is_empty());
    assert!(storage.requests().iter().all(|request| request.token.is_none()));
    assert!(!stderr(&output).contains("hf_secret") && !stdout(&output).contains("hf_secret"));
}

#[test]
fn every_refusal_says_what_to_do() {
    for (status, code, words) in [
        (401, "", "HF_TOKEN"),
        (403, "GatedRepo", "ask for access at"),
        (404, "RepoNotFound", "no such model"),
        (404, "RevisionNotFound", "no revision 'main' of it"),
        (429, "", "rate limited"),
    ] {
        let scratch = Scratch::new();
        let headers = || vec![("X-Error-Code", code.to_owned()), ("Retry-After", "0".to_owned())];
        let headers = headers();
        let server = Server::start(move |_, _| Answer::refusal(status, headers.clone()));
        let output = pull(&scratch, &server, "org/tiny");
        assert_eq!(output.status.code(), Some(4), "{status}");
        let message = stderr(&output).replace("\n", " ");
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ").replace("│ ", "");
        assert!(message.contains(words), "{status} {code}: {message}");
        assert!(!message.contains("hf_secret"));
    }
}

#[test]
fn a_busy_hub_is_asked_again() {
    let scratch = Scratch::new();
    let repository = Repository::new(&scratch);
    let server = Server::start(move |request, number| match number {
        0 => Answer::refusal(429, vec![("Retry-After", "0".into())]),
        1 => Answer::refusal(503, Vec::new()),
        _ => repository.answer(request),
    });
    let output = pull(&scratch, &server, "org/tiny");
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_repository_of_pickles_is_refused_and_nothing_is_fetched_offline() {
    let scratch = Scratch::new();
    let mut repository = Repository::new(&scratch);
    repository.files.retain(|(name, _)| !name.ends_with(".safetensors"));
    let server = Server::start(move |request, _| repository.answer(request));
    let output = pull(&scratch, &server, "org/tiny");
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).contains("has no safetensors"), "{}", stderr(&output));
    let mut offline = scratch.command(&["model", "pull", "org/other"]);
    offline
        .env("HF_ENDPOINT", &server.address)
        .env("HF_HOME", scratch.path().join("hf"))
        .env("HF_HUB_OFFLINE", "1");
    let before = server.requests().len();
    let output = offline.output().unwrap();
    assert!(stderr(&output).contains("HF_HUB_OFFLINE"), "{}", stderr(&output));
    assert_eq!(server.requests().len(), before);
}

#[test]
fn a_sweep_over_a_hub_id_pulls_it_before_it_runs() {
    let scratch = Scratch::new();
    let repository = Repository::new(&scratch);
    let server = Server::start(move |request, _| repository.answer(request));
    let text = "name = \"tiny\"\nmodel = \"org/tiny\"\ndata = \"two_digit_subtraction\"\neval = [\"two_digit_subtraction\"]\n\
                limit = 3\n[train]\niterations = 8\nbatch_size = 8\n";
    std::fs::write(scratch.path().join("sweep.toml"), text).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = scratch.command(arguments);
        command.env("HF_ENDPOINT", &server.address).env("HF_HOME", scratch.path().join("hf"));
        command.output().unwrap()
    };
    let plan = command(&["plan", "sweep.toml"]);
    assert_eq!(plan.status.code(), Some(4));
    assert!(stderr(&plan).contains("loragrid model pull org/tiny"), "{}", stderr(&plan));
    let run = command(&["run", "sweep.toml", "--engine", env!("CARGO_BIN_EXE_fake-engine")]);
    assert!(run.status.success(), "{}", stderr(&run));
    assert!(stderr(&run).contains("downloading org/tiny from"), "{}", stderr(&run));
}

/// A data set as the hub serves it: tables of the Parquet revision, and a file of the main revision.
fn data_set(files: Vec<(String, Vec<u8>)>) -> Server {
    let repository = Repository { files };
    Server::start(move |request, _| {
        let path = request.path.split('?').next().unwrap();
        if path.starts_with("/api/datasets/org/quiz/revision/") {
            return repository.description();
        }
        let file = path.strip_prefix(&format!("/datasets/org/quiz/resolve/{COMMIT}/"));
        match file.and_then(|name| repository.find(name)) {
            Some(body) => Answer::file(body, request),
            None => Answer::refusal(404, vec![("X-Error-Code", "RepoNotFound".into())]),
        }
    })
}

/// A Parquet file with these strings in its column `q`.
fn parquet(texts: &[&str]) -> Vec<u8> {
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::writer::SerializedFileWriter;
    let schema =
        parquet::schema::parser::parse_message_type("message row { required binary q (UTF8); }").unwrap();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, Arc::new(schema), Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let values: Vec<ByteArray> = texts.iter().map(|text| ByteArray::from(*text)).collect();
    column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

fn show(scratch: &Scratch, server: &Server, name: &str, document: &str) -> std::process::Output {
    let mut command =
        scratch.command(&["task", "show", name, "--include-path", "tasks", "--document", document]);
    command.env("HF_ENDPOINT", &server.address).env("HF_HOME", scratch.path().join("hf")).output().unwrap()
}

#[test]
fn the_rows_of_a_task_come_from_the_hub_once() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path().join("tasks")).unwrap();
    let body = "output_type: loglikelihood\ndoc_to_text: q\ndoc_to_target: '{{q}}'\ntest_split: test\n";
    let task = |name: &str, data: &str| {
        scratch.write(&format!("tasks/{name}.yaml"), format!("task: {name}\n{data}\n{body}"));
    };
    task("table", "dataset_path: org/quiz\ndataset_name: easy");
    task(
        "file",
        "dataset_path: json\ndataset_kwargs: {data_files: {test: hf://datasets/org/quiz/data/a.jsonl}}",
    );
    task("other", "dataset_path: org/quiz\ndataset_name: hard");
    let files = [
        ("easy/test/0000.parquet", parquet(&["first", "second"])),
        ("easy/test/0001.parquet", parquet(&["third"])),
        ("easy/train/0000.parquet", parquet(&["not wanted"])),
        ("data/a.jsonl", b"{\"q\": \"of a file\"}\n".to_vec()),
        ("quiz.py", b"import os".to_vec()),
    ];
    let server = data_set(files.map(|(name, body)| (name.to_owned(), body)).into());
    let shown = show(&scratch, &server, "table", "2");
    assert!(stdout(&shown).contains("\"third\""), "{}", stderr(&shown));
    assert!(stdout(&show(&scratch, &server, "file", "0")).contains("\"of a file\""));
    let paths: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    assert!(paths[0].contains("refs%2Fconvert%2Fparquet"), "{paths:?}");
    assert!(!paths.iter().any(|path| path.contains("train") || path.contains("quiz.py")), "{paths:?}");
    assert!(stdout(&show(&scratch, &server, "table", "0")).contains("\"first\""));
    assert_eq!(server.requests().len(), paths.len(), "what is here is not asked for again");
    let none = show(&scratch, &server, "other", "0");
    assert!(stderr(&none).contains("split 'test' of 'hard'"), "{}", stderr(&none));
}
