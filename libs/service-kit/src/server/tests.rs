use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    routing::{get, post},
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Limits, Site, serve};

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// A listener on the test's thread, whose local recorder has the metrics of this test alone.
struct Server {
    address: std::net::SocketAddr,
    closing: CancellationToken,
    served: JoinHandle<()>,
    metrics: PrometheusHandle,
    _recorded: metrics::LocalRecorderGuard<'static>,
    _closed: DropGuard,
}

impl Server {
    async fn start(router: Router, limits: Limits) -> Self {
        // It lives as long as the process, which is that of one test run.
        let recorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
        let metrics = recorder.handle();
        let guard = metrics::set_default_local_recorder(recorder);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let closing = CancellationToken::new();
        let site = Site::new("public", router);
        let served = tokio::spawn(serve(listener, site, limits, closing.clone()));
        let closed = closing.clone().drop_guard();
        Self { address, closing, served, metrics, _recorded: guard, _closed: closed }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("accepted")
    }

    /// All that the server says to `request`, until it closes the connection.
    async fn ask(&self, request: &[u8]) -> String {
        let mut client = self.connect().await;
        client.write_all(request).await.expect("sent");
        read_to_end(&mut client).await
    }

    /// How long an ordinary request takes.
    async fn time_of_a_request(&self) -> Duration {
        let started = Instant::now();
        let answer = self.ask(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        started.elapsed()
    }

    fn count(&self, line: &str) -> u64 {
        let text = self.metrics.render();
        let value = text.lines().find_map(|found| found.strip_prefix(line));
        value.map_or(0, |value| value.trim().parse().expect("a number"))
    }

    fn closed(&self, reason: &str) -> u64 {
        let labels = format!("{{listener=\"public\",reason=\"{reason}\"}}");
        self.count(&format!("http_connections_closed_total{labels}"))
    }

    fn refused(&self) -> u64 {
        self.count("http_requests_total{method=\"unknown\",route=\"unmatched\",status=\"4xx\"}")
    }
}

async fn read_to_end(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = timeout(DEADLINE, client.read_to_end(&mut answer)).await;
    read.expect("within the deadline").expect("a whole answer");
    String::from_utf8_lossy(&answer).into_owned()
}

fn done() -> Router {
    Router::new().route("/", get(async || "done"))
}

fn code_of(answer: &str) -> String {
    let body = answer.split_once("\r\n\r\n").expect("a head").1;
    let problem: serde_json::Value = serde_json::from_str(body).expect("a problem document");
    problem["code"].as_str().expect("a code").to_owned()
}

#[tokio::test]
async fn a_request_in_flight_is_answered_after_the_listener_closed() {
    let (entered, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let router = Router::new().route("/", {
        let (entered, answer) = (Arc::clone(&entered), Arc::clone(&answer));
        get(async move || {
            entered.notify_one();
            answer.notified().await;
            "done"
        })
    });
    let server = Server::start(router, Limits::default()).await;
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    entered.notified().await;
    let silent = server.connect().await;
    server.closing.cancel();
    answer.notify_one();

    let response = read_to_end(&mut client).await;
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert!(response.ends_with("done"), "{response}");
    let ended = timeout(Duration::from_secs(5), server.served).await;
    ended.expect("a silent connection keeps nobody waiting").expect("no panic");
    assert!(TcpStream::connect(server.address).await.is_err(), "nothing listens any more");
    drop(silent);
    let text = server.metrics.render();
    assert!(!text.contains("reason=\"slow_header\"} 1"), "it had no time to be slow: {text}");
}

/// Reads a large answer so that the server has to wait for it, from the time when `meanwhile` is done.
async fn read_slowly(client: &mut TcpStream, meanwhile: impl FnOnce()) -> usize {
    let (mut read, mut buffer) = (0, vec![0; 1_000_000]);
    sleep(Duration::from_millis(300)).await;
    meanwhile();
    loop {
        let bytes = timeout(DEADLINE, client.read(&mut buffer)).await.expect("going on");
        match bytes.expect("not reset") {
            0 => return read,
            bytes => read += bytes,
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_large_answer_is_sent_to_its_end_also_while_the_listener_closes() {
    const SIZE: usize = 20_000_000;
    let body = "x".repeat(SIZE);
    let server =
        Server::start(done().route("/large", get(async move || body)), Limits::default()).await;
    for (header, rest) in [
        ("content-length: 2\r\n", ""),
        ("transfer-encoding: chunked\r\n", "2\r\nhi\r\n"),
        ("connection: close\r\n", ""),
    ] {
        let mut client = server.connect().await;
        let request = format!("GET /large HTTP/1.1\r\nhost: x\r\n{header}\r\n{rest}");
        client.write_all(request.as_bytes()).await.expect("sent");
        let read = read_slowly(&mut client, || ()).await;
        assert!(read > SIZE, "{header}: {read} bytes");
    }
    let mut clients = [server.connect().await, server.connect().await];
    for (client, header) in clients.iter_mut().zip(["", "connection: close\r\n"]) {
        let request = format!("GET /large HTTP/1.1\r\nhost: x\r\n{header}\r\n");
        client.write_all(request.as_bytes()).await.expect("sent");
    }
    let [one, other] = &mut clients;
    let close = || server.closing.cancel();
    let (one, other) = tokio::join!(read_slowly(one, close), read_slowly(other, || ()));
    assert!(one > SIZE && other > SIZE, "{one} and {other} bytes");
}

#[tokio::test]
async fn bodies_that_do_not_come_give_way_to_one_that_asks() {
    let router = done().route("/take", post(async |body: String| body));
    let server = Server::start(router, Limits { connections: 20, ..Limits::default() }).await;
    let mut waiting = Vec::new();
    for _ in 0..60 {
        let mut client = server.connect().await;
        let head = b"POST /take HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n";
        client.write_all(head).await.expect("sent");
        waiting.push(client);
        if waiting.len().is_multiple_of(10) {
            let took = server.time_of_a_request().await;
            assert!(took < Duration::from_secs(1), "{took:?} beside {}", waiting.len());
        }
    }
    assert!(server.closed("evicted") >= 40, "{}", server.metrics.render());
    let mut last = waiting.pop().expect("sixty");
    last.write_all(b"0123456789").await.expect("sent");
    let mut answer = [0; 12];
    last.read_exact(&mut answer).await.expect("answered");
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn silent_connections_give_way_to_one_that_asks() {
    let limits = Limits { connections: 50, ..Limits::default() };
    let server = Server::start(done(), limits).await;
    let mut silent = Vec::new();
    for _ in 0..120 {
        silent.push(server.connect().await);
        if silent.len().is_multiple_of(10) {
            let took = server.time_of_a_request().await;
            assert!(took < Duration::from_secs(1), "{took:?} beside {}", silent.len());
        }
    }
    assert!(server.closed("evicted") >= 70, "{}", server.metrics.render());
    assert_eq!(server.count("http_connections_limit{listener=\"public\"}"), 50);
    assert!(server.count("http_connections{listener=\"public\"}") <= 50);
    let mut first = silent.swap_remove(0);
    assert_eq!(read_to_end(&mut first).await, "", "the longest unused was closed");
}

#[tokio::test]
async fn while_all_are_being_answered_the_next_one_waits() {
    let (entered, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let router = done().route("/slow", {
        let (entered, answer) = (Arc::clone(&entered), Arc::clone(&answer));
        get(async move || {
            entered.notify_one();
            answer.notified().await;
            "slow"
        })
    });
    let server = Server::start(router, Limits { connections: 1, ..Limits::default() }).await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    entered.notified().await;
    let mut next = server.connect().await;
    next.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("sent");
    let mut byte = [0];
    let early = timeout(Duration::from_millis(200), next.read(&mut byte)).await;
    assert!(early.is_err(), "nobody is cut off who waits for an answer");
    answer.notify_one();
    assert!(read_to_end(&mut next).await.ends_with("done"));
    assert!(read_to_end(&mut slow).await.ends_with("slow"), "it was unused by then");
}

#[tokio::test]
async fn a_header_that_does_not_come_to_its_end_is_refused_in_words() {
    let limits = Limits { header_time: Duration::from_secs(1), ..Limits::default() };
    let server = Server::start(done(), limits).await;
    let mut trickling = server.connect().await;
    let mut silent = server.connect().await;
    let trickle = async {
        for byte in b"GET / HTTP/1.1\r\nhost: x\r\nx: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy" {
            if trickling.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(100)).await;
            let mut first = [0];
            let looked = timeout(Duration::from_millis(1), trickling.peek(&mut first)).await;
            if looked.is_ok() {
                break;
            }
        }
        read_to_end(&mut trickling).await
    };
    let answer = timeout(DEADLINE, trickle).await.expect("cut off");
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert_eq!(code_of(&answer), "header_too_slow");
    assert_eq!(read_to_end(&mut silent).await, "", "who said nothing is told nothing");
    assert_eq!(server.closed("slow_header"), 2);
    assert_eq!(server.refused(), 1);
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let limits = Limits { idle_time: Duration::from_secs(1), ..Limits::default() };
    let server = Server::start(done(), limits).await;
    let answer = server.ask(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.ends_with("done"), "{answer}");
    assert_eq!(server.closed("idle"), 1);
}

#[tokio::test]
async fn what_is_no_request_gets_a_problem_document() {
    let server = Server::start(done(), Limits::default()).await;
    let flood = "x: y\r\n".repeat(200);
    for (request, status, code) in [
        ("nonsense\r\n\r\n".to_owned(), "400", "invalid_request"),
        ("GET / HTTP/1.1\r\nhost x\r\n\r\n".to_owned(), "400", "invalid_request"),
        (
            format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(70_000)),
            "431",
            "header_too_large",
        ),
        (format!("GET / HTTP/1.1\r\nhost: x\r\n{flood}\r\n"), "431", "header_too_large"),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(65_535)), "431", "header_too_large"),
    ] {
        let before = server.refused();
        let answer = server.ask(request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("content-type: application/problem+json\r\n"), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(code_of(&answer), code);
        assert_eq!(server.refused(), before + 1);
    }
    let long = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: {}\r\n\r\n",
        "y".repeat(60_000)
    );
    assert!(server.ask(long.as_bytes()).await.ends_with("done"), "60 000 bytes are no fault");
}

#[tokio::test]
async fn requests_before_one_that_is_refused_are_answered() {
    let server = Server::start(done(), Limits::default()).await;
    let good = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let answer = server.ask(format!("{good}{good}nonsense\r\n\r\n").as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    assert_eq!(answer.matches("done").count(), 2, "{answer}");
    let refusal = answer.rsplit_once("HTTP/1.1 400 Bad Request\r\n").expect("refused").1;
    assert_eq!(code_of(refusal), "invalid_request");
}

#[tokio::test]
async fn http_1_0_and_a_client_that_ended_its_half_are_answered() {
    let server = Server::start(done(), Limits::default()).await;
    let answer = server.ask(b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    assert!(answer.ends_with("done"), "{answer}");
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    client.shutdown().await.expect("half closed");
    assert!(read_to_end(&mut client).await.ends_with("done"));
}

#[tokio::test]
async fn a_body_that_nobody_reads_does_not_cost_the_answer() {
    let router = done().route("/refuse", post(async || (http::StatusCode::FORBIDDEN, "no")));
    let server = Server::start(router, Limits::default()).await;
    let mut client = server.connect().await;
    let (length, chunk) = (100_000_000_usize, vec![b'x'; 100_000]);
    let head = format!("POST /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    client.write_all(head.as_bytes()).await.expect("sent");
    // As simple clients do: first all is sent, then the answer is read.
    for _ in 0..length / chunk.len() {
        if client.write_all(&chunk).await.is_err() {
            break;
        }
    }
    let answer = read_to_end(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(server.time_of_a_request().await < Duration::from_secs(1));
}

#[tokio::test]
async fn a_reader_that_stops_is_cut_off_and_one_that_goes_on_is_not() {
    let limits = Limits { progress_time: Duration::from_secs(1), ..Limits::default() };
    let body = "x".repeat(20_000_000);
    let router = done().route("/large", get(async move || body));
    let server = Server::start(router, limits).await;
    let request = b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut stopped = server.connect().await;
    stopped.write_all(request).await.expect("sent");
    let mut slow = server.connect().await;
    slow.write_all(request).await.expect("sent");
    let (mut read, mut buffer) = (0, vec![0; 2_000_000]);
    loop {
        let bytes = timeout(DEADLINE, slow.read(&mut buffer)).await.expect("going on");
        match bytes.expect("not cut off") {
            0 => break,
            bytes => read += bytes,
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert!(read > 20_000_000, "{read} bytes");
    let until = Instant::now() + DEADLINE;
    while server.closed("slow_reader") == 0 {
        assert!(Instant::now() < until, "{}", server.metrics.render());
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.closed("slow_reader"), 1);
}
