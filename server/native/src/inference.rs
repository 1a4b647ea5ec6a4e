//! One inference from its arrival to its end: who asks, what became of it, and who is told. How it is computed is not known here.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use crate::activity::OpenCall;
use crate::admission::Admitted;
use crate::call::{Answers, Framed, Head, Peer, framed};
use crate::caught::caught;
use crate::form::Fitted;
use crate::jobs::{Lost, Outcome, Part, Waiter};
use crate::observers::Traced;
use crate::pipeline::{Pipeline, WAITED, expired, metadata};
use crate::requests::Request;
use crate::router::Choice;
use crate::status::{self, Status};
use crate::streams;

/// Where the end of an inference goes.
pub enum Reply {
    /// To the call that it is, which is open until then.
    Call(Answers, OpenCall),
    /// To the stream that it is a message of; that call is open until then as well.
    Stream(oneshot::Sender<Framed>, Rc<OpenCall>),
}

impl Reply {
    fn poll_unwanted(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Reply::Call(answers, _) => answers.poll_gone(context),
            Reply::Stream(reply, _) => reply.poll_closed(context),
        }
    }

    /// The answer that `write` appends, as it is sent; refused if there is no room to keep it until then.
    fn written(&self, write: impl FnOnce(&mut BytesMut)) -> Result<Framed, Status> {
        match self {
            Reply::Call(_, open) => framed(write).counted(open),
            Reply::Stream(_, open) => streams::answered(write).counted(open),
        }
    }

    fn answer(self, answer: Framed) {
        match self {
            Reply::Call(answers, _) => answers.answer(answer),
            // A stream that has ended needs no answer.
            Reply::Stream(reply, _) => drop(reply.send(answer)),
        }
    }

    fn refuse(self, status: &Status) {
        match self {
            Reply::Call(answers, _) => answers.refuse(status),
            Reply::Stream(reply, _) => drop(reply.send(streams::refused(status))),
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
    pub request: Request,
    /// Who answers it, once that is known.
    pub choice: Option<Choice>,
    /// As the version that answers takes it.
    pub fitted: Option<Rc<Fitted>>,
    /// What it holds of the bounds, once it waits.
    pub admitted: Option<Admitted>,
    timing: Timing,
    begun_again: bool,
    reply: Option<Reply>,
}

/// How the runs of a request went; `batch_rows` is 0 if there were none.
#[derive(Clone, Copy, Default)]
struct Timing {
    queued: Duration,
    ran: Duration,
    batch_rows: usize,
}

impl Inference {
    pub fn new(pipeline: Rc<Pipeline>, head: Rc<Head>, peer: Arc<Peer>, data: Bytes, reply: Reply) -> Box<Self> {
        Box::new(Inference {
            pipeline,
            head,
            peer,
            data,
            begun: Instant::now(),
            request: Request::default(),
            choice: None,
            fitted: None,
            admitted: None,
            timing: Timing::default(),
            begun_again: false,
            reply: Some(reply),
        })
    }

    pub fn refuse(mut self: Box<Self>, status: &Status) {
        self.fail(status);
    }

    /// Forget what was found out about it, to be found out once more; false if that was done before.
    pub fn begin_again(&mut self) -> bool {
        if std::mem::replace(&mut self.begun_again, true) {
            return false;
        }
        (self.request, self.choice, self.fitted) = (Request::default(), None, None);
        true
    }

    /// Return once nobody waits for it any more.
    pub async fn gone(&mut self) {
        poll_fn(|context| self.reply.as_mut().map_or(Poll::Ready(()), |reply| reply.poll_unwanted(context))).await;
    }

    /// The caller went away.
    pub fn leave(mut self: Box<Self>) {
        self.reply = None;
        self.count(status::CANCELLED, self.rows());
    }

    /// Its rows, once that is known.
    pub fn rows(&self) -> usize {
        self.fitted.as_ref().map_or(0, |fitted| fitted.rows)
    }

    fn answer(&mut self, parts: &[Part]) {
        let (Some(reply), Some(choice), Some(fitted)) = (&self.reply, &self.choice, &self.fitted) else { return };
        let timing = self.request.parameters.timing.then(|| self.timing.written());
        let Request { id, raw, .. } = &self.request;
        #[cfg(test)]
        crate::server::panics::provoke(crate::server::panics::UNWRITTEN, id);
        let written = reply.written(|answer| choice.lane.form.encode(answer, id, *raw, &fitted.wanted, parts, timing.as_deref()));
        let answer = match written {
            Ok(answer) => answer,
            Err(status) => return self.fail(&status),
        };
        self.count(status::OK, self.rows());
        if let Some(reply) = self.reply.take() {
            reply.answer(answer);
        }
        for shadow in &choice.shadows {
            self.pipeline.copy(shadow, id.clone(), self.data.clone());
        }
    }

    fn fail(&mut self, status: &Status) {
        let Some(reply) = self.reply.take() else { return };
        let counters = &self.pipeline.shared.counters;
        counters.rejected(self.choice.as_ref().map_or("", |choice| &choice.lane.model), &status.reason);
        self.count(status.code, if self.timing.batch_rows > 0 { self.rows() } else { 0 });
        reply.refuse(status);
    }

    fn count(&self, code: u32, rows: usize) {
        let took = self.begun.elapsed();
        match &self.choice {
            Some(Choice { lane, arm, .. }) => lane.counters.answered(*arm, code, took),
            None => self.pipeline.shared.counters.unrouted(code),
        }
        if self.pipeline.shared.observers.wants_calls() {
            self.trace(status::name(code), rows, took);
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
            queued: self.timing.queued,
            ran: self.timing.ran,
            batch_rows: self.timing.batch_rows,
        });
    }
}

impl Waiter for Inference {
    fn is_gone(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.reply.as_mut().is_none_or(|reply| reply.poll_unwanted(&mut context).is_ready())
    }

    fn end(mut self: Box<Self>, outcome: Outcome) {
        self.admitted = None;
        match outcome {
            Ok(computed) => {
                self.timing = Timing { queued: computed.queued, ran: computed.ran, batch_rows: computed.batch_rows };
                self.answer(&computed.parts);
            }
            Err(Lost::Gone) => self.leave(),
            Err(Lost::Expired) => self.refuse(&expired(WAITED)),
            Err(Lost::Failed(text)) => self.refuse(&Status::refusal(status::INTERNAL, "MODEL_FAILED", &text, None)),
        }
    }
}

impl Timing {
    fn written(self) -> String {
        format!(
            "{{\"batch_rows\": {}, \"compute_seconds\": {:?}, \"queue_seconds\": {:?}}}",
            self.batch_rows,
            self.ran.as_secs_f64(),
            self.queued.as_secs_f64()
        )
    }
}

impl Drop for Inference {
    fn drop(&mut self) {
        if self.reply.is_some() {
            // The same defect may end this as well, and a panic may not leave a drop while another is under way.
            caught(|| self.fail(&Status::defect()));
        }
    }
}
