//! How connections that are not had are told.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

use super::*;

/// What is said of a member at this port.
async fn said(port: u16) -> String {
    let address: Address = format!("etcd://127.0.0.1:{port}/mesh").parse().unwrap();
    let client = Client::new(&address, None, None).unwrap();
    let request = RangeRequest::default();
    let range = client.attempt::<_, RangeResponse>("/etcdserverpb.KV/Range", &request);
    client.words(&range.await.unwrap_err())
}

#[tokio::test]
async fn a_connection_that_is_not_had_is_told_by_its_cause_and_with_what_may_help() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // As TLS answers who speaks plaintext.
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(&[0x15, 3, 3, 0, 2, 2, 70]).unwrap();
    });
    let told = said(port).await;
    assert!(
        told.contains("--store-ca") && !told.contains("transport"),
        "{told}"
    );
    serving.join().unwrap();
    let told = said(port).await;
    assert!(told.starts_with(&format!("127.0.0.1:{port}: ")), "{told}");
    assert!(told.contains("refused") && !told.contains('{'), "{told}");
}
