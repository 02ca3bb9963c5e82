use axum::{Extension, routing::get};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
};

use super::*;

const BOUND: Duration = Duration::from_secs(30);

/// A door with one route, which says from where it was called.
async fn open(limits: Limits) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let told = |ConnectInfo(Peer(peer)): ConnectInfo<Peer>| async move { peer.to_string() };
    let known = || async { Extension(Known) };
    let router = Router::new()
        .route("/", get(told))
        .route("/known", get(known));
    let door = Door {
        tcp,
        tls: None,
        limits,
    };
    let serving = tokio::spawn(door.serve(router, async {
        let _ = stopped.await;
    }));
    (address, stop, serving)
}

async fn whole(mut stream: TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(BOUND, stream.read_to_string(&mut answer))
        .await
        .expect("the connection is closed in time")
        .unwrap();
    answer
}

const CLOSING: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn who_says_nothing_or_never_ends_its_headers_holds_its_place_for_a_while_only() {
    let limits = Limits {
        connections: 2,
        headers: Duration::from_millis(300),
        ..Limits::default()
    };
    let (address, _stop, _serving) = open(limits).await;
    let mut halves = Vec::new();
    for begin in ["", "GET / HTTP/1.1\r\nhost: x\r\nx-never"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        halves.push(stream);
    }
    // All places are taken: this one waits for them, and is answered.
    let third = TcpStream::connect(address).await.unwrap();
    let from = third.local_addr().unwrap().to_string();
    let answer = whole(third, CLOSING).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with(&from),
        "{answer}"
    );
    for half in halves {
        let answer = whole(half, "").await;
        assert!(!answer.contains("200 OK"), "{answer}");
    }
}

#[tokio::test]
async fn an_open_door_is_closed_and_idle_connections_with_it() {
    let (address, stop, serving) = open(Limits::default()).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    let kept = CLOSING.replace("connection: close\r\n", "");
    idle.write_all(kept.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    timeout(BOUND, idle.read_exact(&mut first))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stop.send(()).unwrap();
    timeout(BOUND, serving).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn who_is_known_takes_no_place_of_a_stranger() {
    let limits = Limits {
        connections: 1,
        known: 2,
        ..Limits::default()
    };
    let (address, _stop, _serving) = open(limits).await;
    let known = "GET /known HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(known.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        let answered = timeout(BOUND, stream.read_exact(&mut first)).await;
        answered.expect("there is a place").unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        kept.push(stream);
    }
    // The stranger's place is free all the same.
    let stranger = TcpStream::connect(address).await.unwrap();
    let answer = whole(stranger, CLOSING).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
