//! Calls of many messages: inferences in a stream, reflection, and watching health. One message of each is `pipeline`'s or Python's.

use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::spawn_local;

use crate::activity::OpenCall;
use crate::call::{Answers, Framed, Gone, Head, Messages, Peer, Refused, framed};
use crate::caught::caught;
use crate::inference::{Inference, Reply};
use crate::pipeline::Pipeline;
use crate::status::Status;
use crate::wire;

/// Requests of one stream that may be unanswered; then no more is read from it, and HTTP/2 holds the caller back.
const WINDOW: usize = 64;
/// Their bytes, for which the same holds; one of more has to be alone.
const WINDOW_BYTES: usize = 1 << 20;

/// Where an answer comes, and its place in the window.
type Unanswered = (oneshot::Receiver<Framed>, OwnedSemaphorePermit);

/// `ModelStreamInfer`: answers come in the order of the requests, and a refusal does not end the stream.
pub async fn infer(
    pipeline: Rc<Pipeline>,
    head: Rc<Head>,
    peer: Arc<Peer>,
    messages: Messages,
    mut answers: Answers,
    open: Rc<OpenCall>,
) -> Result<(), Gone> {
    let (unanswered, mut next) = mpsc::channel::<Unanswered>(WINDOW);
    let reading = spawn_local(read(pipeline, head, peer, messages, open, unanswered));
    loop {
        let answer = tokio::select! {
            () = answers.gone() => return Err(Gone),
            answer = next.recv() => answer,
        };
        let Some((answer, _place)) = answer else { break };
        let answer = tokio::select! {
            // Whatever it has asked for is given up as the places for the answers are dropped.
            () = answers.gone() => return Err(Gone),
            answer = answer => answer.map_err(|_| Gone)?,
        };
        answers.send(answer).await?;
    }
    match reading.await {
        Ok(Ok(())) => answers.finish(),
        Ok(Err(Refused::With(status))) => {
            answers.refuse(&status);
            Ok(())
        }
        _ => Err(Gone),
    }
}

async fn read(
    pipeline: Rc<Pipeline>,
    head: Rc<Head>,
    peer: Arc<Peer>,
    mut messages: Messages,
    open: Rc<OpenCall>,
    unanswered: mpsc::Sender<Unanswered>,
) -> Result<(), Refused> {
    let room = Arc::new(Semaphore::new(WINDOW_BYTES));
    loop {
        // Room for the answer first: what is not read, the caller keeps.
        let Ok(place) = unanswered.reserve().await else { return Err(Refused::Gone) };
        let Some(message) = messages.next().await? else { return Ok(()) };
        let (tell, told) = oneshot::channel();
        let bytes = message.len().min(WINDOW_BYTES) as u32;
        let Ok(room) = room.clone().acquire_many_owned(bytes).await else { return Err(Refused::Gone) };
        place.send((told, room));
        let inference = Inference::new(pipeline.clone(), head.clone(), peer.clone(), message, Reply::Stream(tell, open.clone()));
        // A defect ends this inference.
        caught(|| pipeline.infer(inference));
    }
}

/// A `ModelStreamInferResponse` with the answer that `write` appends.
pub fn answered(write: impl FnOnce(&mut BytesMut)) -> Framed {
    let mut answer = BytesMut::new();
    write(&mut answer);
    framed(|response| wire::put_bytes(response, 2, &answer))
}

/// One that says why there is no answer.
pub fn refused(status: &Status) -> Framed {
    framed(|response| wire::put_bytes(response, 1, format!("[{}] {}", status.name, status.text).as_bytes()))
}

/// A stream whose messages Python answers, one after the other.
pub async fn asked_of_python(
    pipeline: Rc<Pipeline>,
    head: Rc<Head>,
    peer: Arc<Peer>,
    mut messages: Messages,
    mut answers: Answers,
) -> Result<(), Gone> {
    loop {
        let message = tokio::select! {
            () = answers.gone() => return Err(Gone),
            message = messages.next() => message,
        };
        let answer = match message {
            Ok(None) => return answers.finish(),
            Ok(Some(message)) => pipeline.ask(&head, peer.clone(), message).await,
            Err(Refused::With(status)) => Err(status),
            Err(Refused::Gone) => return Err(Gone),
        };
        match answer {
            Ok(answer) => answers.send(answer[..].into()).await?,
            Err(status) => {
                answers.refuse(&status);
                return Ok(());
            }
        }
    }
}

/// Health's `Watch`: one answer now, and one at each change.
pub async fn watch_health(
    pipeline: Rc<Pipeline>,
    head: Rc<Head>,
    peer: Arc<Peer>,
    message: Bytes,
    mut answers: Answers,
) -> Result<(), Gone> {
    let Ok(mut watched) = pipeline.shared.health.watch(message.clone()) else {
        if let Err(status) = pipeline.ask(&head, peer, message).await {
            answers.refuse(&status);
        }
        return Ok(());
    };
    loop {
        let answer = tokio::select! {
            () = answers.gone() => None,
            answer = watched.next() => answer,
        };
        let Some(answer) = answer else { return Err(Gone) };
        answers.send(answer[..].into()).await?;
    }
}
