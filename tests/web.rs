//! `serve` and `serve-model` over real sockets, as programs ask them. What a browser shows is in tests/browser.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use loragrid::cli::ExitCode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value as Json, json};

use crate::lab::{FAKE, Lab, succeeded, wait_until};
use crate::support::stderr;

const GRID: &str = "eval = [\"two_digit_subtraction\"]\nlimit = 10\n[axes]\n\"lora.rank\" = [2, 4]\n\"train.learning_rate\" = [1e-3, 2e-3]\n";

/// A running server.
struct Served {
    child: Child,
    port: u16,
}

/// An answer: status, headers and body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Served {
    fn start(lab: &Lab, arguments: &[&str], token: Option<&str>) -> Self {
        let mut command = lab.with_engine(FAKE, &[arguments, &["--port", "0", "--json"]].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("LORAGRID_TOKEN");
        command.envs(token.map(|token| ("LORAGRID_TOKEN", token)));
        let mut child = command.spawn().unwrap();
        let mut text = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        while !text.ends_with("}\n") {
            assert!(output.read_line(&mut text).unwrap() > 0, "it ended: {text}");
        }
        let started: Json = serde_json::from_str(&text).unwrap();
        let url = started["url"].as_str().unwrap();
        let port = url.split(':').nth(2).unwrap().split('/').next().unwrap().parse().unwrap();
        Self { child, port }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = self.connect();
        let has_host = headers.iter().any(|(name, _)| *name == "Host");
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !has_host {
            head.push_str(&format!("Host: 127.0.0.1:{}\r\n", self.port));
        }
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        // A server that refuses a long body may close before it has it all.
        let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes());
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).unwrap_or("0").parse().unwrap();
        let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        let body = if is_chunked { unchunked(body) } else { body.to_owned() };
        Answer { status, head: head.to_lowercase(), body }
    }

    fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "")
    }

    fn form(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, &[("Content-Type", "application/x-www-form-urlencoded")], body)
    }

    fn post(&self, path: &str, body: &Json) -> (u16, Json) {
        let answer = self.send("POST", path, &[("Content-Type", "application/json")], &body.to_string());
        (answer.status, serde_json::from_str(&answer.body).unwrap_or_default())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Its exit code after a signal.
    fn end(mut self) -> (Option<i32>, String) {
        self.signal(Signal::SIGTERM);
        let code = self.child.wait().unwrap().code();
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (code, errors)
    }
}

fn unchunked(body: &str) -> String {
    let (mut out, mut rest) = (String::new(), body);
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || after.len() < size {
            break;
        }
        out.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    out
}

fn form_token(page: &str) -> String {
    page.split("name=\"form_token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[test]
fn every_page_of_a_sweep_is_there_and_allows_nothing_from_elsewhere() {
    let lab = Lab::new(GRID);
    succeeded(&lab.run(None, &[]));
    let server = Served::start(&lab, &["serve"], None);
    let job = lab.ask::<String>("SELECT id FROM jobs WHERE kind = 'train' ORDER BY rowid");
    let pages = [
        ("/".to_owned(), "/sweeps/tiny"),
        ("/sweeps/tiny".to_owned(), "lr=0.002"),
        ("/sweeps/tiny?view=leaderboard&where=lora.rank%20%3E%3D%204&sort=loss".to_owned(), "r=4"),
        ("/sweeps/tiny?view=curves".to_owned(), "<svg"),
        ("/sweeps/tiny?view=parallel".to_owned(), "polyline"),
        ("/sweeps/tiny?view=pivot".to_owned(), "across"),
        ("/sweeps/tiny?view=effects".to_owned(), "Importance"),
        ("/sweeps/tiny/report".to_owned(), "Leaderboard"),
        (format!("/jobs/{}", job[0]), "Resolved keys"),
        (format!("/jobs/{}?task=two_digit_subtraction", job[0]), "Document 0"),
        (format!("/compare?runs={}&runs={}", job[0], job[1]), "Keys that differ"),
        ("/plan".to_owned(), "sweep file"),
    ];
    for (path, expected) in pages {
        let answer = server.get(&path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(answer.body.contains(expected), "{path} lacks {expected}");
        assert!(
            answer.head.contains("content-security-policy: default-src 'none'"),
            "{path}: {}",
            answer.head
        );
        assert!(
            !answer.head.contains("unsafe") && answer.head.contains("nosniff"),
            "{path}: {}",
            answer.head
        );
        assert!(!answer.body.contains("class=\"message\">"), "{path}: {}", answer.body);
    }
    for path in ["/sweeps/other", "/jobs/ffff", "/nothing", "/compare?runs=a&runs=b"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    let wrong = server.get("/sweeps/tiny?view=leaderboard&where=lora.rnk%20%3E%202");
    assert!(wrong.body.contains("unknown") || wrong.body.contains("lora.rnk"), "{}", wrong.body);
    assert_eq!(server.end().0, Some(0));
}

#[test]
fn a_form_needs_the_token_of_its_page_and_an_address_of_this_server() {
    let lab = Lab::new(GRID);
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    let server = Served::start(&lab, &["serve"], None);
    let token = form_token(&server.get("/sweeps/tiny").body);
    let body = format!("name=tiny&verb=pause&back=%2Fsweeps%2Ftiny&form_token={token}");
    let states = || lab.ask::<String>("SELECT DISTINCT state FROM jobs");
    assert_eq!(server.form("/control", "name=tiny&verb=pause&back=/").status, 403);
    for headers in [[("Origin", "http://evil.example")], [("Origin", "null")]] {
        assert_eq!(server.send("POST", "/control", &headers, &body).status, 403);
    }
    assert_eq!(server.send("POST", "/control", &[("Host", "evil.example")], &body).status, 421);
    assert_eq!(states(), ["queued"]);
    let paused = server.form("/control", &body);
    assert_eq!(paused.status, 303, "{}", paused.body);
    assert!(paused.head.contains("location: /sweeps/tiny?message=5%20jobs%20paused"), "{}", paused.head);
    assert_eq!(states(), ["paused"]);
    // An address of another site is not gone to.
    let elsewhere = body.replace("%2Fsweeps%2Ftiny", "%2F%2Fevil.example").replace("pause", "resume");
    assert!(server.form("/control", &elsewhere).head.contains("location: /?message="));
    assert_eq!(states(), ["queued"]);
    let raise = body.replace("verb=pause", "verb=raise");
    assert_eq!(server.form("/control", &raise).status, 303);
    let priorities = "SELECT DISTINCT json_extract(job_order, '$.sweeps.tiny.priority') FROM jobs";
    assert_eq!(lab.ask::<i64>(priorities), [1]);
    assert_eq!(server.form("/control", &"x".repeat(3 << 20)).status, 413);
    assert_eq!(server.end().0, Some(0));
}

/// The events of a stream until one has this text.
fn read_until(stream: TcpStream, text: &str) -> String {
    let mut found = String::new();
    for line in BufReader::new(stream).lines() {
        found.push_str(&line.unwrap());
        found.push('\n');
        if found.contains(text) {
            return found;
        }
    }
    panic!("the stream ended without {text}: {found}");
}

#[test]
fn what_changes_is_pushed_and_a_database_that_is_away_is_waited_for() {
    let lab = Lab::new(GRID);
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    let server = Served::start(&lab, &["serve"], None);
    let open = || {
        let mut stream = server.connect();
        let path = "/events?page=%2Fsweeps%2Ftiny";
        write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", server.port).unwrap();
        stream
    };
    let first = open();
    let text = read_until(first.try_clone().unwrap(), "5 queued");
    assert!(text.contains("event: token") && text.contains("event: parts"), "{text}");
    succeeded(&lab.0.run(&["pause", "tiny"]));
    let text = read_until(first.try_clone().unwrap(), "5 paused");
    assert!(!text.contains("\"curves\""), "only what changed is sent: {text}");
    // The database goes and comes back.
    let away = lab.0.path().join("away");
    std::fs::rename(lab.0.path().join("results"), &away).unwrap();
    read_until(first.try_clone().unwrap(), "trouble");
    assert_eq!(server.get("/").status, 503);
    std::fs::rename(&away, lab.0.path().join("results")).unwrap();
    read_until(open(), "5 paused");
    assert_eq!(server.get("/").status, 200);
    // An open stream does not keep the server from ending.
    assert_eq!(server.end().0, Some(0));
}

#[test]
fn a_server_for_other_machines_needs_a_token_which_it_never_says() {
    let lab = Lab::new(GRID);
    succeeded(&lab.0.run(&["submit", "sweep.toml"]));
    let refused = lab.0.run(&["serve", "--host", "0.0.0.0", "--port", "0"]);
    assert_eq!(refused.status.code(), Some(ExitCode::Usage as i32));
    assert!(stderr(&refused).contains("token"), "{}", stderr(&refused));
    let server = Served::start(&lab, &["serve"], Some("a-secret-of-a-test"));
    let asked = server.get("/sweeps/tiny");
    assert!(asked.status == 303 && asked.head.contains("location: /login"), "{}", asked.head);
    let with = |value: &str| server.send("GET", "/", &[("Authorization", value)], "").status;
    assert_eq!((with("Bearer a-secret-of-a-test"), with("Bearer other")), (200, 401));
    assert_eq!(server.form("/login", "token=other&back=/").status, 401);
    let entered = server.form("/login", "token=a-secret-of-a-test&back=/sweeps/tiny");
    let cookie = entered.head.split("set-cookie: ").nth(1).unwrap().split(';').next().unwrap().to_owned();
    assert!(
        !entered.head.contains("a-secret") && entered.head.contains("httponly; samesite=strict"),
        "{}",
        entered.head
    );
    assert_eq!(server.send("GET", "/sweeps/tiny", &[("Cookie", &cookie)], "").status, 200);
    assert_ne!(server.send("GET", "/sweeps/tiny", &[("Cookie", "loragrid=guess")], "").status, 200);
    // The port is in use.
    let port = server.port.to_string();
    let second = lab.0.run(&["serve", "--port", &port]);
    assert_eq!(second.status.code(), Some(ExitCode::Usage as i32));
    assert!(stderr(&second).contains("cannot listen on 127.0.0.1 port"), "{}", stderr(&second));
    let (code, errors) = server.end();
    assert!(code == Some(0) && !errors.contains("a-secret"), "{errors}");
}

#[test]
fn a_model_is_served_under_its_names_and_a_field_that_is_not_known_is_refused_by_name() {
    let lab = Lab::new(GRID);
    let adapter = lab.0.path().join("adapter");
    std::fs::create_dir(&adapter).unwrap();
    std::fs::write(adapter.join("adapter_config.json"), "{}").unwrap();
    std::fs::write(adapter.join("adapter_model.safetensors"), "").unwrap();
    let server = Served::start(
        &lab,
        &["serve-model", "model", "--name", "tiny", "--adapter", "mine=adapter", "--engine", FAKE],
        None,
    );
    let models = server.get("/v1/models");
    let models: Json = serde_json::from_str(&models.body).unwrap();
    assert_eq!([&models["data"][0]["id"], &models["data"][1]["id"]], ["tiny", "mine"]);
    // The fake engine answers with the prompt's tokens in turn, the second model from the second on.
    let ask = |more: Json| {
        let mut body = json!({ "model": "tiny", "prompt": "abcdef", "max_tokens": 4 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/completions", &body)
    };
    let (status, answer) = ask(json!({}));
    assert_eq!((status, &answer["choices"][0]["text"]), (200, &json!("abcd")), "{answer}");
    assert_eq!(answer["usage"]["completion_tokens"], 4);
    assert_eq!(ask(json!({ "model": "mine" })).1["choices"][0]["text"], "bcde");
    assert_eq!(
        ask(json!({ "stop": "cd" })).1["choices"][0],
        json!({
            "index": 0, "text": "ab", "logprobs": null, "finish_reason": "stop",
        })
    );
    for (more, status, named) in [
        (json!({ "model": "other" }), 404, "model"),
        (json!({ "temperatur": 0 }), 400, "temperatur"),
        (json!({ "presence_penalty": 0.5 }), 400, "presence_penalty"),
        (json!({ "max_tokens": 300 }), 400, "max_tokens"),
        (json!({ "prompt": 7 }), 400, "prompt"),
        (json!({ "prompt": "" }), 200, ""),
    ] {
        let (found, answer) = ask(more.clone());
        assert_eq!(found, status, "{more}: {answer}");
        assert_eq!(answer["error"]["param"].as_str().unwrap_or_default(), named, "{more}: {answer}");
    }
    let stream = server.send(
        "POST",
        "/v1/chat/completions",
        &[("Content-Type", "application/json")],
        &json!({ "model": "tiny", "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 3, "stream": true }).to_string(),
    );
    let chunks: Vec<&str> = stream.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert!(chunks.len() >= 4 && chunks[chunks.len() - 1] == "[DONE]", "{chunks:?}");
    let text: String = chunks[..chunks.len() - 1]
        .iter()
        .map(|chunk| serde_json::from_str::<Json>(chunk).unwrap())
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(text, "Bel", "the start of Alpaca's prompt");
    let wrong = server.send("POST", "/v1/completions", &[("Content-Type", "text/plain")], "{}");
    assert_eq!((wrong.status, server.get("/v1/other").status), (415, 404));
    wait_until("nobody waits", || server.get("/health").body.contains("\"requests\":0"));
    let (code, errors) = server.end();
    assert_eq!(code, Some(0), "{errors}");
}
