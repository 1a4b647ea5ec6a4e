//! One inference from its arrival to its end: who asks, what became of it, and who is told. How it is computed is not known here.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use crate::activity::OpenCall;
use crate::call::{Answers, Head, Peer, framed};
use crate::observers::Traced;
use crate::pipeline::{Pipeline, metadata};
use crate::router::Choice;
use crate::status::{self, Status};

/// Where the end of an inference goes.
pub enum Reply {
    /// To the call that it is, which is open until then.
    Call(Answers, #[expect(dead_code, reason = "held")] OpenCall),
    /// To the stream that it is a message of.
    Stream(oneshot::Sender<Result<Bytes, Status>>),
}

impl Reply {
    fn is_unwanted(&mut self) -> bool {
        match self {
            Reply::Call(answers, _) => answers.are_unwanted(),
            Reply::Stream(reply) => reply.is_closed(),
        }
    }

    fn answer(self, write: impl FnOnce(&mut BytesMut)) {
        match self {
            Reply::Call(answers, _) => answers.answer(framed(write)),
            Reply::Stream(reply) => {
                let mut answer = BytesMut::new();
                write(&mut answer);
                // A stream that has ended needs no answer.
                let _ = reply.send(Ok(answer.freeze()));
            }
        }
    }

    fn refuse(self, status: Status) {
        match self {
            Reply::Call(answers, _) => answers.refuse(&status),
            Reply::Stream(reply) => {
                let _ = reply.send(Err(status));
            }
        }
    }
}

/// An inference that has not ended. It is counted once, however it ends: dropped without an end, as a defect of ours has it, it is INTERNAL.
pub struct Inference {
    pub pipeline: Rc<Pipeline>,
    pub head: Rc<Head>,
    pub peer: Arc<Peer>,
    pub data: Bytes,
    pub begun: Instant,
    /// Who answers it, once that is known.
    pub choice: Option<Choice>,
    pub rows: usize,
    pub ran: Timing,
    reply: Option<Reply>,
}

/// How the runs of a request went; `batch_rows` is 0 if there were none.
#[derive(Clone, Copy, Default)]
pub struct Timing {
    pub queued: Duration,
    pub ran: Duration,
    pub batch_rows: usize,
}

impl Inference {
    pub fn new(pipeline: Rc<Pipeline>, head: Rc<Head>, peer: Arc<Peer>, data: Bytes, reply: Reply) -> Self {
        let begun = Instant::now();
        Inference { pipeline, head, peer, data, begun, choice: None, rows: 0, ran: Timing::default(), reply: Some(reply) }
    }

    /// Whether nobody waits for it any more.
    pub fn is_unwanted(&mut self) -> bool {
        self.reply.as_mut().is_none_or(Reply::is_unwanted)
    }

    /// Answer with the message that `write` appends.
    pub fn answer(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let Some(reply) = self.reply.take() else { return };
        self.count(status::OK, "OK", self.rows);
        reply.answer(write);
    }

    pub fn refuse(mut self, status: Status) {
        self.end(status);
    }

    /// The caller went away.
    pub fn leave(mut self) {
        self.reply = None;
        self.count(status::CANCELLED, status::name(status::CANCELLED), self.rows);
    }

    fn end(&mut self, status: Status) {
        let Some(reply) = self.reply.take() else { return };
        let model = self.choice.as_ref().map_or("", |choice| choice.lane.model.as_str());
        self.pipeline.shared.counters.rejected(model, &status.reason);
        if self.choice.is_none() {
            self.pipeline.shared.counters.unrouted(&status);
        }
        self.count(status.code, status.name, if self.ran.batch_rows > 0 { self.rows } else { 0 });
        reply.refuse(status);
    }

    fn count(&self, code: u32, name: &'static str, rows: usize) {
        let took = self.begun.elapsed();
        if let Some(Choice { lane, arm, .. }) = &self.choice {
            lane.counters.answered(*arm, code, took);
        }
        if self.pipeline.shared.observers.wants_calls() {
            self.trace(name, rows, took);
        }
    }

    fn trace(&self, code: &'static str, rows: usize, took: Duration) {
        let choice = self.choice.as_ref();
        self.pipeline.shared.observers.call(Traced {
            metadata: metadata(&self.head),
            model: choice.map_or_else(String::new, |choice| choice.lane.model.clone()),
            version: choice.map_or(0, |choice| choice.lane.version),
            arm: choice.map_or("", |choice| choice.arm.name()),
            code,
            rows,
            began: self.begun,
            took,
            queued: self.ran.queued,
            ran: self.ran.ran,
            batch_rows: self.ran.batch_rows,
        });
    }
}

impl Drop for Inference {
    fn drop(&mut self) {
        if self.reply.is_some() {
            self.end(Status::defect());
        }
    }
}
