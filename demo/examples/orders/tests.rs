//! The service as its clients see it: over HTTP, beside what is in its database.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidings::store::{EventFilter, Storer as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::*;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long requests and handlers of a service that is stopped may go on.
const DEADLINE: Duration = Duration::from_millis(300);

/// A running service.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    service: JoinHandle<Result<(), Error>>,
}

impl Running {
    async fn start(url: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let url = url.to_owned();
        let service = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            serve(&url, listener, stopped, DEADLINE).await
        });
        Self {
            address,
            stop,
            service,
        }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        let ended = timeout(PATIENCE, self.service).await.unwrap();
        ended.unwrap().unwrap();
        let refused = TcpStream::connect(self.address).await;
        assert!(refused.is_err(), "it still listens");
    }

    /// One request; answers the status and the body.
    async fn request(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let answer = timeout(PATIENCE, exchange).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    async fn place(&self, id: &str, total_cents: i64) -> u16 {
        let order = json!({ "id": id, "total_cents": total_cents });
        self.request("POST", "/orders", &order.to_string()).await.0
    }

    /// What was billed for an order, once it is.
    async fn billed(&self, id: &str) -> Value {
        let asked = async {
            loop {
                let (status, body) = self.request("GET", &format!("/orders/{id}"), "").await;
                assert_eq!(status, 200, "{body}");
                let order: Value = serde_json::from_str(&body).unwrap();
                if !order["billed_cents"].is_null() {
                    return order["billed_cents"].clone();
                }
                // As a client would, which hears of nothing.
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, asked).await.unwrap()
    }
}

/// A database that is gone after the test.
fn database() -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("orders.db").display());
    (directory, url)
}

async fn count_events(url: &str) -> u64 {
    let store = SqliteStore::connect(url, SqliteOptions::new())
        .await
        .unwrap();
    let mut session = store.session().await.unwrap();
    let all = EventFilter::default();
    session.events().count(&all).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_billed_and_an_insert_that_fails_leaves_no_event() {
    let (_directory, url) = database();
    let service = Running::start(&url).await;
    assert_eq!(service.place("4711", 1290).await, 201);
    assert_eq!(service.billed("4711").await, json!(1290));
    assert_eq!(count_events(&url).await, 1);

    // Its event is raised before the insert fails, and is rolled back with it.
    assert_eq!(service.place("4711", 5).await, 409);
    assert_eq!(count_events(&url).await, 1);
    assert_eq!(service.billed("4711").await, json!(1290));

    let (status, _) = service.request("GET", "/orders/4712", "").await;
    assert_eq!(status, 404);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_placed_just_before_the_end_is_billed_after_a_restart() {
    let (_directory, url) = database();
    let service = Running::start(&url).await;
    for id in 0..20 {
        assert_eq!(service.place(&id.to_string(), id).await, 201);
    }
    service.stop().await;
    let service = Running::start(&url).await;
    for id in 0..20 {
        assert_eq!(service.billed(&id.to_string()).await, json!(id));
    }
    assert_eq!(count_events(&url).await, 20);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_no_entity_can_have_is_the_clients_mistake() {
    let (_directory, url) = database();
    let service = Running::start(&url).await;
    for id in ["", " 4711", "47\u{0}11", &"4".repeat(300)] {
        let order = json!({ "id": id, "total_cents": 1 }).to_string();
        let (status, why) = service.request("POST", "/orders", &order).await;
        assert_eq!(status, 422, "{id:?}: {why}");
        assert!(why.contains("entity id"), "{why}");
    }
    assert_eq!(count_events(&url).await, 0);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_ends_its_request_does_not_keep_the_service() {
    let (_directory, url) = database();
    let service = Running::start(&url).await;
    let mut slow = TcpStream::connect(service.address).await.unwrap();
    slow.write_all(b"POST /orders HTTP/1.1\r\nhost: localhost\r\n")
        .await
        .unwrap();
    // A later request was answered, so the earlier connection has been accepted.
    assert_eq!(service.place("4711", 1).await, 201);
    service.stop().await;
    drop(slow);
}
