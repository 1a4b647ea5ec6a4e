//! For tests: a defect of ours, wherever it is, ends the request that it is about with INTERNAL. Everybody else is answered, all is counted,
//! nothing stays in flight, and the daemon goes on.

use std::thread::sleep;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request as HttpRequest};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyBytes, PyCFunction, PyList, PyMemoryView, PyTuple};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use super::{Server, Settings};
use crate::encoding::{Sample, field};
use crate::tensors::Datatype;

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
const METADATA: &str = "/inference.GRPCInferenceService/ServerMetadata";
const BROKEN: &str = "/inference.GRPCInferenceService/ModelMetadata";
const OK: &str = "0";
const INTERNAL: &str = "13";
/// A method, and the id of a request, on which the thread that serves fails as it takes it; an id on which it does as it writes the answer;
/// a row on which the engine fails. What is told of batches that ran fails each time.
pub const UNTAKEN: &str = "/untaken";
pub const UNWRITTEN: &str = "unwritten";
const UNCOMPUTED: f32 = -1.0;

/// Called on the thread that serves where it may fail on this name.
pub fn provoke(defect: &str, name: &[u8]) {
    assert_ne!(name, defect.as_bytes(), "provoked");
}

fn function(py: Python<'_>, answer: impl Fn(&Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> + Send + Sync + 'static) -> Py<PyAny> {
    PyCFunction::new_closure(py, None, None, move |given, _| answer(given)).expect("a function").into_any().unbind()
}

/// Gives back its input.
fn run(given: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
    let py = given.py();
    let (memory, shape): (Bound<'_, PyAny>, Vec<usize>) = given.get_item(0)?.get_item(0)?.extract()?;
    let data: Vec<u8> = py.get_type::<PyBytes>().call1((memory,))?.extract()?;
    let rows: Vec<f32> = data.chunks(4).map(|row| f32::from_le_bytes(row.try_into().expect("four bytes"))).collect();
    assert!(!rows.contains(&UNCOMPUTED), "provoked");
    let array = py.get_type::<PyMemoryView>().call1((PyBytes::new(py, &data),))?.call_method1("cast", ("f", shape))?;
    PyList::new(py, [array])?.into_py_any(py)
}

fn call(given: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
    assert_ne!(given.get_item(0)?.extract::<String>()?, BROKEN, "provoked");
    PyBytes::new(given.py(), b"answer").into_py_any(given.py())
}

/// A daemon that gathers two rows for a batch, or waits for them for a while.
fn daemon(py: Python<'_>) -> PyResult<Server> {
    let settings = Settings {
        max_batch_rows: 2,
        max_queue_delay: 0.2,
        max_queue_rows: 100,
        max_queue_bytes: 1 << 20,
        max_message_bytes: 1 << 20,
        max_metadata_bytes: 8192,
        max_streams: 100,
        rate_limit: 0.0,
        rate_burst: 0.0,
        connection_age: 0.0,
        max_connection_age_grace: 1.0,
        max_connection_idle: 0.0,
        keepalive_time: 60.0,
        keepalive_timeout: 20.0,
        min_ping_interval: 10.0,
    };
    let unasked = || function(py, |_| panic!("nobody is asked"));
    let (call, run) = (function(py, call), function(py, run));
    let server =
        Server::new(settings, call, unasked(), unasked(), unasked(), unasked(), unasked(), None, false, "0".into(), vec![1.0], vec![1.0])?;
    let tensor = |name: &str| vec![(name.to_owned(), "FP32", vec![-1])];
    let version = [
        ("model", "m".into_py_any(py)?),
        ("number", 1.into_py_any(py)?),
        ("digest", "".into_py_any(py)?),
        ("inputs", tensor("x").into_py_any(py)?),
        ("outputs", tensor("y").into_py_any(py)?),
        ("batchable", true.into_py_any(py)?),
        ("always", Vec::<String>::new().into_py_any(py)?),
        ("run", run),
        ("log", (function(py, |_| panic!("provoked")), 1.0).into_py_any(py)?),
        ("drift", py.None()),
    ];
    let model = [
        ("name", "m".into_py_any(py)?),
        ("labels", [("production", 1)].into_py_dict(py)?.into_py_any(py)?),
        ("canaries", Vec::<(u32, u64)>::new().into_py_any(py)?),
        ("shadows", Vec::<u32>::new().into_py_any(py)?),
        ("ready", true.into_py_any(py)?),
    ];
    let value = py.import("types")?.getattr("SimpleNamespace")?;
    let version = value.call((), Some(&version.into_py_dict(py)?))?.extract()?;
    let model = value.call((), Some(&model.into_py_dict(py)?))?.extract()?;
    server.install(py, vec![version], vec![model], true)?;
    Ok(server)
}

/// A message that asks for one row.
fn asking(id: &str, row: f32) -> Vec<u8> {
    let input = Sample { name: "x".into(), datatype: Datatype::Fp32, shape: vec![1], elements: vec![row.to_le_bytes().to_vec()] };
    let tensor = [input.head().concat(), field(5, &input.typed(&[]))].concat();
    [field(1, b"m"), field(3, id.as_bytes()), field(5, &tensor)].concat()
}

/// What the call ends with, and how many bytes came before.
async fn outcome(client: &SendRequest<Bytes>, path: &str, messages: &[Vec<u8>]) -> (String, usize) {
    let request = HttpRequest::post(format!("http://daemon{path}")).header("content-type", "application/grpc").body(()).expect("a call");
    let (response, mut body) = client.clone().ready().await.expect("a connection").send_request(request, false).expect("a call");
    let mut data = BytesMut::new();
    for message in messages {
        data.put_u8(0);
        data.put_u32(message.len() as u32);
        data.put_slice(message);
    }
    body.send_data(data.freeze(), true).expect("a call");
    let (head, mut body) = response.await.expect("an answer").into_parts();
    let mut bytes = 0;
    while let Some(part) = body.data().await {
        bytes += part.expect("an answer").len();
    }
    let code = |fields: &HeaderMap| fields.get("grpc-status").map(|code| code.to_str().expect("a code").to_owned());
    let trailers = body.trailers().await.expect("an end").unwrap_or_default();
    (code(&head.headers).or(code(&trailers)).expect("a code"), bytes)
}

async fn code(client: &SendRequest<Bytes>, path: &str, message: Vec<u8>) -> String {
    outcome(client, path, &[message]).await.0
}

async fn connect(port: u16) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(("127.0.0.1", port)).await.expect("a daemon");
    let (client, connection) = h2::client::handshake(socket).await.expect("a connection");
    // Over with the daemon.
    spawn_local(async move { drop(connection.await) });
    client
}

/// All defects one after the other, each beside a request on the same connection, and followed by one on it and one on another.
async fn provoked(port: u16) {
    let (here, there) = (connect(port).await, connect(port).await);
    let well = || asking("", 7.0);
    let inferences = [asking(UNTAKEN, 7.0), asking("", UNCOMPUTED), asking(UNWRITTEN, 7.0)];
    let calls = [(BROKEN, Vec::new()), (UNTAKEN, Vec::new())];
    for (path, defect) in inferences.map(|inference| (INFER, inference)).into_iter().chain(calls) {
        let both = tokio::join!(code(&here, INFER, well()), code(&here, path, defect));
        assert_eq!(both, (OK.into(), INTERNAL.into()), "{path}");
        let both = tokio::join!(code(&here, INFER, well()), code(&there, INFER, well()));
        assert_eq!(both, (OK.into(), OK.into()), "{path}");
        assert_eq!(code(&there, METADATA, Vec::new()).await, OK);
    }
    let stream = [well(), asking(UNTAKEN, 7.0), well(), asking("", UNCOMPUTED), well()];
    assert_eq!(outcome(&here, STREAM, &stream).await.0, OK);
}

#[test]
fn a_defect_ends_the_request_it_is_about() {
    Python::initialize();
    let server = Python::attach(daemon).expect("a daemon");
    let port = server.start("127.0.0.1:0", false).expect("a port").expect("a port");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, provoked(port));

    let end = Instant::now() + Duration::from_secs(5);
    while server.in_flight() > 0 && Instant::now() < end {
        sleep(Duration::from_millis(1));
    }
    assert_eq!(server.in_flight(), 0);
    let counts = server.counts();
    let mut requests = counts.versions[&("m".into(), 1)].0.clone();
    requests.sort();
    let counted = |code: &str, number| ("stable".into(), code.into(), number);
    assert_eq!(requests, [counted("INTERNAL", 3), counted("OK", 18)]);
    assert_eq!(counts.unrouted, [("INTERNAL".into(), 2)].into());
    Python::attach(|py| {
        server.stop(py);
        // Here, as what it holds of Python is given back at once.
        drop(server);
    });
}
