//! The winner for use elsewhere: uploaded to a hub on the loopback interface, which checks the protocol; sent to a tracker.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use loragrid::cli::ExitCode;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::lab::{FAKE, Lab, succeeded};
use crate::support::{Scratch, stderr, stdout};

/// A request with its body.
#[derive(Debug, Clone)]
struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A server that answers by a function and records what it was asked.
struct Standin {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Standin {
    fn start(answer: impl Fn(&Request, &str) -> (u16, Json) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, here, answer) = (Arc::clone(&requests), address.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, seen, here) = (stream.unwrap(), Arc::clone(&seen), here.clone());
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || {
                    while let Some(request) = read(&stream) {
                        seen.lock().unwrap().push(request.clone());
                        let (status, body) = answer(&request, &here);
                        let body = body.to_string();
                        let head = format!(
                            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nContent-Type: application/json\r\n\r\n",
                            body.len()
                        );
                        if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
            None => break,
        }
    }
    let mut request = Request { method, path, headers, body: Vec::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    request.body = vec![0; length];
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}

const WEIGHTS: &[u8] = b"weights of an adapter";

/// A hub that puts safetensors into large-file storage.
fn hub(request: &Request, here: &str) -> (u16, Json) {
    match request.path.as_str() {
        "/api/repos/create" => (200, json!({ "url": here })),
        "/api/models/you/winner/preupload/main" => {
            let mode = |file: &Json| {
                let large = file["path"].as_str().unwrap().ends_with(".safetensors");
                json!({ "path": file["path"], "uploadMode": if large { "lfs" } else { "regular" } })
            };
            let files = request.json()["files"].as_array().unwrap().iter().map(mode).collect::<Vec<Json>>();
            (200, json!({ "files": files }))
        }
        "/you/winner.git/info/lfs/objects/batch" => {
            let oid = request.json()["objects"][0]["oid"].clone();
            let upload = json!({ "href": format!("{here}/storage/x?signature=secret-link"), "header": { "x-part": "1" } });
            let verify = json!({ "href": format!("{here}/you/winner.git/info/lfs/verify") });
            (200, json!({ "objects": [{ "oid": oid, "actions": { "upload": upload, "verify": verify } }] }))
        }
        "/you/winner.git/info/lfs/verify" | "/storage/x?signature=secret-link" => (200, json!({})),
        "/api/models/you/winner/commit/main" => {
            (200, json!({ "commitUrl": format!("{here}/you/winner/commit/1") }))
        }
        _ => (404, json!({})),
    }
}

fn folder() -> Scratch {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path().join("out")).unwrap();
    scratch.write("out/adapter_model.safetensors", WEIGHTS);
    scratch.write("out/README.md", "# A card\n");
    scratch.write("out/.hidden", "not uploaded");
    scratch
}

#[test]
fn a_folder_is_pushed_as_one_commit_and_the_token_goes_to_the_hub_only() {
    let (scratch, server) = (folder(), Standin::start(hub));
    let mut push = scratch.command(&["push", "out", "you/winner", "--private", "--message", "The winner"]);
    push.env("HF_ENDPOINT", &server.address).env("HF_TOKEN", "hf_secret");
    let output = push.output().unwrap();
    succeeded(&output);
    assert!(
        stdout(&output).contains("/you/winner/commit/1: README.md, adapter_model.safetensors"),
        "{}",
        stdout(&output)
    );
    let all = format!("{}{}", stdout(&output), stderr(&output));
    assert!(!all.contains("hf_secret") && !all.contains("secret-link"), "{all}");
    let requests = server.requests();
    let paths: Vec<&str> = requests.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/api/repos/create",
            "/api/models/you/winner/preupload/main",
            "/you/winner.git/info/lfs/objects/batch",
            "/storage/x?signature=secret-link",
            "/you/winner.git/info/lfs/verify",
            "/api/models/you/winner/commit/main",
        ]
    );
    let [create, preupload, batch, upload, verify, commit] = &requests[..] else { panic!("{paths:?}") };
    assert_eq!(
        create.json(),
        json!({ "type": "model", "name": "winner", "organization": "you", "private": true })
    );
    let digest = Sha256::digest(WEIGHTS).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(preupload.json()["files"][0]["sample"], "IyBBIGNhcmQK", "the start of the file");
    assert_eq!(batch.header("accept"), Some("application/vnd.git-lfs+json"));
    assert_eq!(batch.json()["objects"], json!([{ "oid": digest, "size": WEIGHTS.len() }]));
    assert_eq!((upload.method.as_str(), upload.body.as_slice()), ("PUT", WEIGHTS));
    assert_eq!((upload.header("authorization"), upload.header("x-part")), (None, Some("1")));
    assert_eq!(verify.json()["oid"], digest.as_str());
    for request in [create, preupload, batch, verify, commit] {
        assert_eq!(request.header("authorization"), Some("Bearer hf_secret"), "{}", request.path);
    }
    let lines: Vec<Json> = String::from_utf8_lossy(&commit.body)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["value"]["summary"], "The winner");
    assert_eq!(
        lines[1]["value"],
        json!({ "path": "README.md", "encoding": "base64", "content": "IyBBIGNhcmQK" })
    );
    assert_eq!(
        lines[2],
        json!({ "key": "lfsFile", "value": { "path": "adapter_model.safetensors", "algo": "sha256", "oid": digest, "size": WEIGHTS.len() } })
    );
    assert_eq!(lines.len(), 3);
}

#[test]
fn a_push_that_cannot_be_is_said_and_commits_nothing() {
    let scratch = folder();
    let bare = scratch.run(&["push", "out", "you/winner"]);
    assert_eq!(bare.status.code(), Some(ExitCode::Model as i32));
    assert!(stderr(&bare).contains("HF_TOKEN"), "{}", stderr(&bare));
    // Storage that refuses.
    let server = Standin::start(|request, here| match request.path.starts_with("/storage") {
        true => (403, json!({})),
        false => hub(request, here),
    });
    let mut push = scratch.command(&["push", "out", "you/winner"]);
    let output = push.env("HF_ENDPOINT", &server.address).env("HF_TOKEN", "hf_secret").output().unwrap();
    assert!(!output.status.success() && stderr(&output).contains("answered 403"), "{}", stderr(&output));
    assert!(!stderr(&output).contains("secret-link"), "{}", stderr(&output));
    assert!(!server.requests().iter().any(|request| request.path.contains("/commit/")));
}

const TRACKED: &str = "eval = [\"two_digit_subtraction\"]\nlimit = 10\n[axes]\n\"lora.rank\" = [2, 4]\n";

#[test]
fn a_tracker_that_is_down_delays_nothing_and_receives_everything_once() {
    let down = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let lab = Lab::new(&format!("{TRACKED}[track]\nmlflow = \"http://{down}\"\ntensorboard = \"events\"\n"));
    let output = lab.run(None, &[]);
    succeeded(&output);
    assert!(
        stderr(&output).contains("mlflow did not receive everything of sweep tiny"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        std::fs::read_dir(lab.0.path().join("events/tiny")).unwrap().count(),
        3,
        "a folder for each job"
    );
    let server = Standin::start(|request, _| match request.path.split('?').next().unwrap() {
        "/api/2.0/mlflow/experiments/get-by-name" => (404, json!({})),
        "/api/2.0/mlflow/experiments/create" => (200, json!({ "experiment_id": "7" })),
        "/api/2.0/mlflow/runs/search" => (200, json!({})),
        "/api/2.0/mlflow/runs/create" => {
            let name = request.json()["run_name"].clone();
            (200, json!({ "run": { "info": { "run_id": name } } }))
        }
        _ => (200, json!({})),
    });
    let export = || {
        let mut export =
            lab.with_engine(FAKE, &["export", "tiny", "--to", "mlflow", "--uri", &server.address]);
        export.env("MLFLOW_TRACKING_TOKEN", "tracking-secret").output().unwrap()
    };
    let output = export();
    succeeded(&output);
    assert!(stdout(&output).starts_with("tiny: sent 3 of 3 jobs to mlflow"), "{}", stdout(&output));
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.header("authorization") == Some("Bearer tracking-secret")));
    assert!(!format!("{}{}", stdout(&output), stderr(&output)).contains("tracking-secret"));
    let metrics: Vec<Json> = requests
        .iter()
        .filter(|request| request.path.ends_with("/runs/log-batch"))
        .flat_map(|request| request.json()["metrics"].as_array().cloned().unwrap_or_default())
        .collect();
    let losses = metrics.iter().filter(|metric| metric["key"] == "train/loss").count();
    assert_eq!(losses, 2 * 4, "two trainings of four steps");
    let ended = requests.iter().filter(|request| request.path.ends_with("/runs/update")).map(Request::json);
    assert!(ended.into_iter().all(|update| update["status"] == "FINISHED"));
    let asked = server.requests().len();
    assert!(stdout(&export()).starts_with("tiny: sent 0 of 3 jobs"), "nothing is sent twice");
    assert_eq!(server.requests().len(), asked);
    // A password is not written into a file.
    let lab = Lab::new(&format!("{TRACKED}[track]\nmlflow = \"http://me:hidden@host:5000\"\n"));
    let output = lab.0.run(&["plan", "sweep.toml"]);
    assert_eq!(output.status.code(), Some(ExitCode::SweepFile as i32));
    assert!(
        stderr(&output).contains("a secret") && !stderr(&output).contains("hidden"),
        "{}",
        stderr(&output)
    );
}
