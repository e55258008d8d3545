use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;

/// No word for so long: none will come.
const SILENCE: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(5);

/// Both ends of a connection through a wire.
async fn ends(wire: &Wire, server: &TcpListener) -> (TcpStream, TcpStream) {
    let (near, far) = tokio::join!(TcpStream::connect(wire.address()), server.accept());
    (near.unwrap(), far.unwrap().0)
}

async fn lay() -> (Wire, TcpListener) {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let wire = Wire::start(&server.local_addr().unwrap().to_string(), 1).await.unwrap();
    (wire, server)
}

/// Says something at one end and hears it at the other.
async fn hears(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    from.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    matches!(timeout(SILENCE, to.read_exact(&mut heard)).await, Ok(Ok(_)) if heard == *b"hello")
}

#[tokio::test]
async fn passes_everything_and_both_ends() {
    let (wire, server) = lay().await;
    let (mut near, mut far) = ends(&wire, &server).await;
    assert!(hears(&mut near, &mut far).await && hears(&mut far, &mut near).await);
    let large = vec![7; 1_000_000];
    let (sent, mut got) = (large.clone(), Vec::new());
    let send = async {
        near.write_all(&sent).await.unwrap();
        near.shutdown().await.unwrap();
    };
    let (_, received) = tokio::join!(send, far.read_to_end(&mut got));
    assert_eq!(received.unwrap(), large.len());
    assert_eq!(got, large);
    // One end is closed; the other direction still passes.
    assert!(hears(&mut far, &mut near).await);
    assert_eq!(wire.open(), 1);
    drop(far);
    assert_eq!(timeout(PATIENCE, near.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
    timeout(PATIENCE, async {
        while wire.open() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn latency_is_added_to_each_direction_until_it_is_mended() {
    let (wire, server) = lay().await;
    let (mut near, mut far) = ends(&wire, &server).await;
    wire.slow(Duration::from_millis(100), Duration::from_millis(20));
    let begun = Instant::now();
    assert!(hears(&mut near, &mut far).await && hears(&mut far, &mut near).await);
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
    wire.mend();
    let begun = Instant::now();
    assert!(hears(&mut near, &mut far).await && hears(&mut far, &mut near).await);
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_reset_is_a_reset_on_both_sides_and_new_connections_pass() {
    let (wire, server) = lay().await;
    let (mut near, mut far) = ends(&wire, &server).await;
    assert!(hears(&mut near, &mut far).await);
    wire.reset();
    for end in [&mut near, &mut far] {
        let error = timeout(PATIENCE, end.read(&mut [0; 8])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    let (mut near, mut far) = ends(&wire, &server).await;
    assert!(hears(&mut near, &mut far).await);
}

#[tokio::test]
async fn a_cut_wire_refuses_until_it_is_mended() {
    let (wire, server) = lay().await;
    wire.cut();
    let mut near = TcpStream::connect(wire.address()).await.unwrap();
    assert!(timeout(PATIENCE, near.read(&mut [0; 8])).await.unwrap().is_err());
    wire.mend();
    let (mut near, mut far) = ends(&wire, &server).await;
    assert!(hears(&mut near, &mut far).await);
}

#[tokio::test]
async fn a_black_hole_accepts_and_gives_back_what_it_held() {
    let (wire, server) = lay().await;
    let (mut near, mut far) = ends(&wire, &server).await;
    wire.hold_up();
    assert!(!hears(&mut near, &mut far).await && !hears(&mut far, &mut near).await);
    let late = TcpStream::connect(wire.address()).await.unwrap();
    assert!(timeout(SILENCE, server.accept()).await.is_err(), "the server does not hear of it");
    wire.mend();
    for end in [&mut near, &mut far] {
        let mut heard = [0; 5];
        timeout(PATIENCE, end.read_exact(&mut heard)).await.unwrap().unwrap();
        assert_eq!(heard, *b"hello");
    }
    assert!(timeout(PATIENCE, server.accept()).await.is_ok());
    drop(late);
}

#[tokio::test]
async fn a_half_open_connection_loses_one_direction_for_ever() {
    for lost in [Direction::There, Direction::Back] {
        let (wire, server) = lay().await;
        let (mut near, mut far) = ends(&wire, &server).await;
        assert!(hears(&mut near, &mut far).await);
        wire.swallow(lost);
        let (speaker, other) = match lost {
            Direction::There => (&mut near, &mut far),
            Direction::Back => (&mut far, &mut near),
        };
        assert!(!hears(speaker, other).await, "{lost:?}");
        assert!(hears(other, speaker).await, "{lost:?}");
        wire.mend();
        assert!(!hears(speaker, other).await, "{lost:?}: it stays so");
        // A new connection is whole.
        let (mut new_near, mut new_far) = ends(&wire, &server).await;
        assert!(hears(&mut new_near, &mut new_far).await && hears(&mut new_far, &mut new_near).await);
        // The one that loses its words dies, and the other one does not hear of it, even when it speaks itself.
        let (speaker, mut other) = if lost == Direction::There { (near, far) } else { (far, near) };
        speaker.set_zero_linger().unwrap();
        drop(speaker);
        assert!(timeout(SILENCE, other.read(&mut [0; 8])).await.is_err(), "{lost:?}");
        other.write_all(b"anybody there?").await.unwrap();
        assert!(timeout(SILENCE, other.read(&mut [0; 8])).await.is_err(), "{lost:?}");
    }
}

#[tokio::test]
async fn an_address_keeps_all_but_its_server() {
    let (wire, url) = Wire::of_url("postgres://role:word@localhost:5432/books?options=a", 1).await.unwrap();
    assert_eq!(url, format!("postgres://role:word@{}/books?options=a", wire.address()));
    let (wire, url) = Wire::of_url("http://127.0.0.1:80/in", 1).await.unwrap();
    assert_eq!(url, format!("http://{}/in", wire.address()));
    let (wire, url) = Wire::of_url("http://127.0.0.1:8080", 1).await.unwrap();
    assert_eq!(url, format!("http://{}", wire.address()));
}
