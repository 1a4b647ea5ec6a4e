//! The limit: a bare HTTP/2 server that answers every call with so many bytes, on one thread. `tidegate-echo BYTES`.
//!
//! It is the `h2` crate and `tokio`, as the native transport has them, and nothing else: no message is looked at.

use std::io;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

type Fault = Box<dyn std::error::Error>;

const STREAMS: u32 = 1 << 10;
const WINDOW: u32 = 1 << 24;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let size: u32 = std::env::args().nth(1).ok_or("how many bytes?")?.parse()?;
    let mut answer = vec![0];
    answer.extend_from_slice(&size.to_be_bytes());
    answer.resize(5 + size as usize, 0);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut asked_to_end = signal(SignalKind::terminate())?;
    println!("echo listening on {}", listener.local_addr()?);
    let tasks = LocalSet::new();
    tokio::select! {
        ended = tasks.run_until(listen(listener, answer.into())) => Ok(ended?),
        _ = asked_to_end.recv() => Ok(()),
    }
}

async fn listen(listener: TcpListener, answer: Bytes) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A connection that breaks ends alone.
        tokio::task::spawn_local(serve(stream, answer.clone()));
    }
}

async fn serve(stream: TcpStream, answer: Bytes) -> Result<(), h2::Error> {
    let mut builder = server::Builder::new();
    builder.max_concurrent_streams(STREAMS).initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let mut connection = builder.handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, response) = request?;
        tokio::task::spawn_local(answer_one(request.into_body(), response, answer.clone()));
    }
    Ok(())
}

async fn answer_one(mut body: RecvStream, mut response: SendResponse<Bytes>, answer: Bytes) -> Result<(), h2::Error> {
    while let Some(data) = body.data().await {
        let size = data?.len();
        body.flow_control().release_capacity(size)?;
    }
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut stream: SendStream<Bytes> = response.send_response(head, false)?;
    stream.send_data(answer, false)?;
    stream.send_trailers(HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]))
}
