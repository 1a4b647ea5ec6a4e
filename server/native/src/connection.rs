//! One connection: HTTP/2 on its socket until either side ends it, and the calls that come on it, each handed on by its path.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::{Method, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::spawn_local;

use crate::activity::{Activity, OpenCall};
use crate::allowance::Allowance;
use crate::call::{Answers, Gone, Head, Messages, Peer, Refused};
use crate::caught::{caught, caught_task};
use crate::inference::{Inference, Reply};
use crate::kept::Account;
use crate::listening::{Connection, UNIX};
use crate::outgoing::Outgoing;
use crate::pipeline::{LATE, Pipeline, expired, passed};
use crate::status::{self, Status};
use crate::streams;
use crate::transport::{Limits, Phase};
use crate::watched::Watched;

const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
pub const MODEL_STREAM_INFER: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
const REFLECTION: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
/// Bytes that one call, and one connection, may have sent without being read.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Bytes of the messages of one stream that the socket may not have taken yet; what an answer has beyond is held back, and counted.
const SEND_BUFFER: usize = 64 << 10;
/// Headers of more end the connection; between the limit of the settings and this, the call has a status.
const LARGEST_HEADERS: u32 = 256 << 10;
const HANDSHAKE: Duration = Duration::from_secs(20);

/// Serve a connection to its end.
pub async fn connection(socket: Connection, address: Arc<str>, pipeline: Rc<Pipeline>, limits: Rc<Limits>, phase: watch::Receiver<Phase>) {
    match pipeline.shared.tls.acceptor() {
        None => serve(socket, Peer { address, names: Vec::new() }, pipeline, limits, phase).await,
        Some(acceptor) => {
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(socket)).await else { return };
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
            let names = match shown {
                Some(certificate) => pipeline.names(certificate).await,
                None => Vec::new(),
            };
            serve(stream, Peer { address, names }, pipeline, limits, phase).await;
        }
    }
}

async fn serve(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    pipeline: Rc<Pipeline>,
    limits: Rc<Limits>,
    mut phase: watch::Receiver<Phase>,
) {
    let activity = Activity::new(limits.min_ping_interval, Account::new(pipeline.shared.kept.clone()));
    let allowance = Allowance::new(pipeline.rounds.clone(), limits.max_streams);
    let outgoing = Outgoing::new(socket);
    let handshake = server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.max_streams)
        // All its callers may give up at once; how much of it is read before others have their turn is bounded: see `Allowance::portion`.
        .max_pending_accept_reset_streams(limits.max_streams as usize)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(limits.max_metadata_bytes.max(LARGEST_HEADERS))
        .handshake::<_, Bytes>(Watched::new(outgoing.clone(), activity.clone(), allowance.clone(), peer.address.starts_with(UNIX)));
    let Ok(Ok(mut connection)) = tokio::time::timeout(HANDSHAKE, handshake).await else { return };
    let Some(pings) = connection.ping_pong() else { return };
    let arrivals = Arrivals { peer: Arc::new(peer), pipeline, activity: activity.clone(), allowance: allowance.clone() };
    let mut age = Box::pin(after(limits.connection_age));
    let mut dead = Box::pin(dead(pings, activity.clone(), limits.keepalive_time, limits.keepalive_timeout));
    let mut idle = Box::pin(activity.idle(limits.connection_idle));
    let mut sent_away = false;
    let mut leaving = *phase.borrow() != Phase::Serving;
    if leaving {
        connection.graceful_shutdown();
    }
    loop {
        tokio::select! {
            () = arrivals.all_of(&mut connection, &outgoing) => return,
            () = activity.too_many_pings(), if !sent_away => {
                sent_away = true;
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            }
            () = allowance.changed() => {
                // If the client has not confirmed the last change yet, it is told with the next.
                if connection.set_initial_window_size(STREAM_WINDOW).is_ok() {
                    allowance.tells();
                }
            }
            () = &mut dead => return,
            () = &mut idle, if !leaving => {
                leaving = true;
                connection.graceful_shutdown();
            }
            () = &mut age => {
                if leaving {
                    return;
                }
                leaving = true;
                connection.graceful_shutdown();
                age = Box::pin(after(Some(limits.age_grace)));
            }
            changed = phase.changed() => {
                if changed.is_err() || *phase.borrow() == Phase::Stopped {
                    return;
                }
                leaving = true;
                connection.graceful_shutdown();
            }
        }
    }
}

/// Return once the client has said nothing for `time`, and gives no sign within `timeout` when it is asked for one.
async fn dead(mut pings: PingPong, activity: Rc<Activity>, time: Duration, timeout: Duration) {
    loop {
        activity.silent(time).await;
        match tokio::time::timeout(timeout, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // Asked already, or the connection ends: that is for others to see.
            Ok(Err(_)) => tokio::time::sleep(timeout).await,
            Err(_) => return,
        }
    }
}

async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

type OnSocket<S> = server::Connection<Watched<Outgoing<S>>, Bytes>;

/// The calls of one connection.
struct Arrivals {
    peer: Arc<Peer>,
    pipeline: Rc<Pipeline>,
    activity: Rc<Activity>,
    allowance: Rc<Allowance>,
}

impl Arrivals {
    /// Take calls until the connection ends.
    async fn all_of<S: AsyncRead + AsyncWrite + Unpin>(&self, connection: &mut OnSocket<S>, outgoing: &Outgoing<S>) {
        poll_fn(|context| {
            self.allowance.begins();
            outgoing.begin();
            loop {
                match connection.poll_accept(context) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        caught(|| self.take(request, respond));
                    }
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
            match outgoing.end(context) {
                Poll::Ready(Err(_)) => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
        .await;
    }

    /// Answer a call, or begin to.
    fn take(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        if let Some(code) = no_grpc(&request) {
            let mut response = Response::new(());
            *response.status_mut() = code;
            let _ = respond.send_response(response, true);
            return;
        }
        let (parts, body) = request.into_parts();
        let head = Rc::new(Head::new(parts, self.allowance.arrived()));
        let answers = Answers::new(respond);
        let options = &self.pipeline.shared.options;
        if head.size() > options.max_metadata_bytes {
            let text = format!("received metadata size exceeds limit ({} bytes)", options.max_metadata_bytes);
            return answers.refuse(&Status::plain(status::RESOURCE_EXHAUSTED, &text));
        }
        let mut messages = Messages::new(body, &head.headers, options.max_message_bytes, self.activity.clone());
        let open = self.activity.call();
        if head.path() == MODEL_INFER {
            // Most requests are here already, as a whole.
            let message = messages.here();
            let asked = Asked { pipeline: self.pipeline.clone(), head, peer: self.peer.clone(), reply: Reply::Call(answers, open) };
            match message {
                Poll::Ready(message) => asked.with(message),
                Poll::Pending => {
                    spawn_local(caught_task(asked.read(messages)));
                }
            }
            return;
        }
        let lasting = self.allowance.lasting();
        let called = call(self.pipeline.clone(), head, self.peer.clone(), messages, answers, open);
        spawn_local(caught_task(async move {
            called.await;
            drop(lasting);
        }));
    }
}

/// An inference whose message may not be there yet.
struct Asked {
    pipeline: Rc<Pipeline>,
    head: Rc<Head>,
    peer: Arc<Peer>,
    reply: Reply,
}

impl Asked {
    async fn read(self, mut messages: Messages) {
        let message = tokio::select! {
            biased;
            () = passed(self.head.deadline) => Err(Refused::With(expired(LATE))),
            message = messages.next() => message,
        };
        self.with(message);
    }

    fn with(self, message: Result<Option<Bytes>, Refused>) {
        let Asked { pipeline, head, peer, reply } = self;
        let inference = |data| Inference::new(pipeline.clone(), head, peer, data, reply);
        match message {
            Ok(Some(message)) => pipeline.infer(inference(message)),
            Ok(None) => inference(Bytes::new()).refuse(&no_message()),
            Err(Refused::With(status)) => inference(Bytes::new()).refuse(&status),
            Err(Refused::Gone) => inference(Bytes::new()).leave(),
        }
    }
}

fn no_message() -> Status {
    Status::plain(status::UNIMPLEMENTED, "the call takes exactly one request message")
}

/// A call that is no single inference.
async fn call(pipeline: Rc<Pipeline>, head: Rc<Head>, peer: Arc<Peer>, messages: Messages, answers: Answers, open: OpenCall) {
    #[cfg(test)]
    crate::server::panics::provoke(crate::server::panics::UNTAKEN, head.path().as_bytes());
    let is_stream = matches!(head.path(), MODEL_STREAM_INFER | REFLECTION);
    if is_stream && let Err(status) = pipeline.may_begin(&head, &peer).await {
        return answers.refuse(&status);
    }
    // Whoever is not there any more needs no answer.
    let _ = match head.path() {
        MODEL_STREAM_INFER => streams::infer(pipeline, head, peer, messages, answers, Rc::new(open)).await,
        REFLECTION => streams::asked_of_python(pipeline, head, peer, messages, answers).await,
        _ => unary(pipeline, head, peer, messages, answers).await,
    };
}

async fn unary(pipeline: Rc<Pipeline>, head: Rc<Head>, peer: Arc<Peer>, mut messages: Messages, answers: Answers) -> Result<(), Gone> {
    let late = || Refused::With(Status::plain(status::DEADLINE_EXCEEDED, ""));
    let message = tokio::select! {
        biased;
        () = passed(head.deadline) => Err(late()),
        message = messages.next() => message,
    };
    let status = match message {
        Ok(Some(message)) => {
            return match head.path() {
                HEALTH_CHECK => check_health(&pipeline, &head, peer, message, answers).await,
                HEALTH_WATCH => streams::watch_health(pipeline, head, peer, message, answers).await,
                _ => answer(answers, pipeline.ask(&head, peer, message).await).await,
            };
        }
        Ok(None) => no_message(),
        Err(Refused::With(status)) => status,
        Err(Refused::Gone) => return Err(Gone),
    };
    answers.refuse(&status);
    Ok(())
}

fn no_grpc(request: &Request<RecvStream>) -> Option<StatusCode> {
    let kind = request.headers().get("content-type").map_or(&b""[..], |value| value.as_bytes());
    if request.method() != Method::POST {
        Some(StatusCode::METHOD_NOT_ALLOWED)
    } else if !kind.starts_with(b"application/grpc") {
        Some(StatusCode::UNSUPPORTED_MEDIA_TYPE)
    } else {
        None
    }
}

async fn check_health(pipeline: &Rc<Pipeline>, head: &Head, peer: Arc<Peer>, message: Bytes, answers: Answers) -> Result<(), Gone> {
    let found = match pipeline.shared.health.check(message.clone()) {
        Ok(Some(status)) => Ok(status),
        // Why not is said in Python.
        Ok(None) | Err(_) => pipeline.ask(head, peer, message).await,
    };
    answer(answers, found).await
}

async fn answer(mut answers: Answers, found: Result<Bytes, Status>) -> Result<(), Gone> {
    match found {
        Ok(found) => {
            answers.send(found[..].into()).await?;
            answers.finish()
        }
        Err(status) => {
            answers.refuse(&status);
            Ok(())
        }
    }
}
