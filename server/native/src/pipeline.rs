//! `ModelInfer`, step by step: decode, route, admit, wait for a batch, encode, count. Sockets are not known here.
//!
//! All of it runs on the one thread that serves; the engine's threads only compute.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::spawn_local;
use tokio::time::sleep_until;

use crate::admission::{Admission, Admitted, Full, RateLimits};
use crate::allowance::Rounds;
use crate::asking::{self, Asking};
use crate::call::{Head, Peer};
use crate::caught::caught_task;
use crate::connection::MODEL_STREAM_INFER;
use crate::grants::{Known, Principal};
use crate::inference::Inference;
use crate::installed::Installed;
use crate::jobs::Submission;
use crate::lane::{Closed, Lane};
use crate::python::Metadata;
use crate::queue::{SHADOW, Ticket};
use crate::requests::{self, Request};
use crate::router::{Arm, Choice};
use crate::shadowing::Shadowing;
use crate::shared::{Options, Shared};
use crate::status::{self, Status};
use crate::wire::Malformed;

/// Levels by the number a caller asks for in `priority`; 0 and any other number are the default, as in Triton.
const LEVELS: [usize; 4] = [1, 0, 1, 2];

pub const LATE: &str = "the deadline had passed when the request came";
pub const WAITED: &str = "the deadline passed while the request waited";

/// All inferences in flight.
pub struct Pipeline {
    pub shared: Arc<Shared>,
    pub installed: Installed,
    pub rounds: Rc<Rounds>,
    admission: Rc<RefCell<Admission>>,
    rates: RefCell<RateLimits>,
}

impl Pipeline {
    pub fn new(shared: Arc<Shared>, installed: Installed, rounds: Rc<Rounds>) -> Self {
        let Options { max_queue_rows, max_queue_bytes, .. } = shared.options;
        let admission = Admission::new(max_queue_rows, max_queue_bytes, shared.in_flight.clone());
        Pipeline { shared, installed, rounds, admission: Rc::new(RefCell::new(admission)), rates: RefCell::default() }
    }

    /// Answer an inference, now or once a batch has computed it; or refuse it.
    pub fn infer(self: &Rc<Self>, inference: Box<Inference>) {
        if self.shared.closed.load(Ordering::Relaxed) {
            return inference.refuse(&draining());
        }
        if inference.head.is_late(inference.begun) {
            return inference.refuse(&expired(LATE));
        }
        match asking::known(&self.shared, &inference.head, &inference.peer) {
            Some(known) => self.read(inference, known),
            None => {
                spawn_local(caught_task(self.clone().identify(inference)));
            }
        }
    }

    fn asking(&self, inference: &Inference) -> Asking {
        let Inference { head, peer, data, .. } = inference;
        Asking { shared: self.shared.clone(), head: head.clone(), peer: peer.clone(), bytes: data.len() }
    }

    async fn identify(self: Rc<Self>, mut inference: Box<Inference>) {
        let asking = self.asking(&inference);
        match while_awaited(&mut inference, asking.identify()).await {
            Some(Ok(known)) => self.read(inference, known),
            Some(Err(status)) => inference.refuse(&status),
            None => inference.leave(),
        }
    }

    /// Decode the message, and see whether he who calls may ask it.
    fn read(self: &Rc<Self>, mut inference: Box<Inference>, known: Arc<Known>) {
        let Ok(request) = requests::decode(inference.data.clone()) else {
            return self.explain_to(inference);
        };
        inference.request = request;
        #[cfg(test)]
        crate::server::panics::provoke(crate::server::panics::UNTAKEN, &inference.request.id);
        if inference.request.id.is_empty() {
            inference.request.id = self.shared.new_id();
        }
        if known.may(&inference.request.model) {
            self.route(inference, &known.principal);
        } else {
            spawn_local(caught_task(self.clone().permit(inference, known)));
        }
    }

    async fn permit(self: Rc<Self>, mut inference: Box<Inference>, known: Arc<Known>) {
        let (asking, model) = (self.asking(&inference), inference.request.model.clone());
        match while_awaited(&mut inference, asking.permit(&known, &model)).await {
            Some(Ok(())) => self.route(inference, &known.principal),
            Some(Err(status)) => inference.refuse(&status),
            None => inference.leave(),
        }
    }

    /// Queue an inference with the version that answers it.
    fn route(self: &Rc<Self>, mut inference: Box<Inference>, principal: &Principal) {
        let caller = if principal.name.is_empty() { inference.peer.address.clone() } else { principal.name.clone() };
        loop {
            let Some(choice) = self.choose(&inference.request) else { return self.explain_to(inference) };
            let (lane, arm) = (choice.lane.clone(), choice.arm);
            inference.choice = Some(choice);
            let Ok(fitted) = lane.form.fit(&mut inference.request) else { return self.explain_to(inference) };
            let fitted = Rc::new(fitted);
            inference.fitted = Some(fitted.clone());
            let deadline = deadline(&inference);
            match self.admitted(&inference, &lane, principal, &caller, deadline) {
                Ok(admitted) => inference.admitted = Some(admitted),
                Err(status) => return inference.refuse(&status),
            }
            let ticket =
                Ticket { rows: fitted.rows, level: level(&inference.request), caller: caller.clone(), shape: lane.form.shape(&fitted) };
            let (id, since) = (inference.request.id.clone(), Instant::now());
            let Err((Closed, back)) = lane.submit(ticket, Submission { fitted, deadline, id, arm, since, waiter: inference }) else {
                return;
            };
            // Unloaded in between: the table has the version that took its place, unless all ends.
            inference = back;
            inference.admitted = None;
            let again = if self.shared.closed.load(Ordering::Relaxed) { Err(Malformed) } else { requests::decode(inference.data.clone()) };
            let Ok(again) = again else { return inference.refuse(&draining()) };
            inference.request.inputs = again.inputs;
        }
    }

    /// Room for an inference to wait, if there is, and if it is of any use.
    fn admitted(
        &self,
        inference: &Inference,
        lane: &Lane,
        principal: &Principal,
        caller: &Arc<str>,
        deadline: Option<Instant>,
    ) -> Result<Admitted, Status> {
        let (request, rows) = (&inference.request, inference.rows());
        self.limit(principal, caller, rows)?;
        check_deadline(lane, level(request), caller, rows, deadline)?;
        self.admit(caller.clone(), level(request), rows, request.size)
    }

    /// The version that answers.
    fn choose(&self, request: &Request) -> Option<Choice> {
        let key = if request.parameters.routing_key.is_empty() { &request.id } else { &request.parameters.routing_key };
        self.installed.table().pick(&request.model, &request.label, key)
    }

    /// Let a shadow compute what a caller has the answer to already; given up wherever anything would have to wait for it.
    pub fn copy(&self, lane: &Rc<Lane>, id: Bytes, data: Bytes) {
        let begun = Instant::now();
        let caller: Arc<str> = Arm::Shadow.name().into();
        let Ok(mut request) = requests::decode(data) else { return };
        let refused = |code| lane.counters.answered(Arm::Shadow, code, begun.elapsed());
        let Ok(fitted) = lane.form.fit(&mut request) else { return refused(status::INVALID_ARGUMENT) };
        let admitted = match self.admit(caller.clone(), SHADOW, fitted.rows, request.size) {
            Ok(admitted) => admitted,
            Err(status) => return refused(status.code),
        };
        let ticket = Ticket { rows: fitted.rows, level: SHADOW, caller, shape: lane.form.shape(&fitted) };
        let waiter = Box::new(Shadowing { lane: lane.clone(), begun, admitted });
        let submission = Submission { fitted: Rc::new(fitted), deadline: None, id, arm: Arm::Shadow, since: begun, waiter };
        // Unloaded in between: nobody waits for it.
        let _ = lane.submit(ticket, submission);
    }

    /// Refuse an inference that could not be read, routed or fitted; Python says why.
    fn explain_to(self: &Rc<Self>, inference: Box<Inference>) {
        spawn_local(caught_task(self.clone().explain(inference)));
    }

    async fn explain(self: Rc<Self>, mut inference: Box<Inference>) {
        let (data, id) = (inference.data.clone(), inference.request.id.clone());
        let explained = self.shared.on_python(move |functions| functions.explain(&data, &id)).await;
        match explained.unwrap_or_else(|| Some(Status::defect())) {
            Some(status) => inference.refuse(&status),
            // What is loaded has changed in between.
            None if inference.begin_again() => self.infer(inference),
            None => {
                eprintln!("Rust refuses an inference that the reference takes");
                inference.refuse(&Status::defect());
            }
        }
    }

    /// Have Python answer a call that is no inference; nothing else waits for it.
    pub async fn ask(&self, head: &Head, peer: Arc<Peer>, message: Bytes) -> Result<Bytes, Status> {
        let (path, metadata) = (head.path().to_owned(), metadata(head));
        let called = self.shared.on_python(move |functions| functions.call(&path, &message, metadata, &peer)).await;
        called.unwrap_or_else(|| Err(Status::defect()))
    }

    /// The names in the certificate that a client was verified by.
    pub async fn names(&self, certificate: Vec<u8>) -> Vec<String> {
        self.shared.on_python(move |functions| functions.names(&certificate)).await.unwrap_or_default()
    }

    /// Whether a stream may begin.
    pub async fn may_begin(&self, head: &Rc<Head>, peer: &Arc<Peer>) -> Result<(), Status> {
        if !self.shared.authenticated {
            return Ok(());
        }
        let asking = Asking { shared: self.shared.clone(), head: head.clone(), peer: peer.clone(), bytes: 0 };
        asking.admit(head.path() == MODEL_STREAM_INFER).await
    }

    fn limit(&self, principal: &Principal, caller: &Arc<str>, rows: usize) -> Result<(), Status> {
        let options = &self.shared.options;
        let (rate, burst) = if principal.rate > 0.0 { (principal.rate, principal.burst) } else { (options.rate_limit, options.rate_burst) };
        if rate <= 0.0 {
            return Ok(());
        }
        let burst = if burst > 0.0 { burst } else { rate };
        self.rates.borrow_mut().take(caller, rate, burst, rows, Instant::now()).map_err(|seconds| {
            let text = format!("{caller} may ask for {rate} rows a second, {burst} at once");
            Status::refusal(status::RESOURCE_EXHAUSTED, "RATE_LIMITED", &text, Some(seconds))
        })
    }

    fn admit(&self, caller: Arc<str>, level: usize, rows: usize, bytes: usize) -> Result<Admitted, Status> {
        Admitted::by(&self.admission, caller, level, rows, bytes).map_err(|full| {
            let text = match full {
                Full::Daemon => "as much waits as may: try again later",
                Full::Caller => "as much of this caller waits as may: try again later",
            };
            Status::refusal(status::RESOURCE_EXHAUSTED, "QUEUE_FULL", text, Some(0.1))
        })
    }
}

/// The metadata of a call as Python has it.
pub fn metadata(head: &Head) -> Metadata {
    head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

fn draining() -> Status {
    Status::refusal(status::UNAVAILABLE, "DRAINING", "the daemon is shutting down", Some(1.0))
}

pub fn expired(text: &str) -> Status {
    Status::refusal(status::DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", text, None)
}

fn level(request: &Request) -> usize {
    LEVELS.get(usize::try_from(request.parameters.priority).unwrap_or(0)).copied().unwrap_or(LEVELS[0])
}

/// When the caller stops waiting, by its call and by its message.
fn deadline(inference: &Inference) -> Option<Instant> {
    let timeout = inference.request.parameters.timeout;
    let own = if timeout > 0 { inference.begun.checked_add(Duration::from_micros(timeout)) } else { None };
    match (inference.head.deadline, own) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn check_deadline(lane: &Lane, level: usize, caller: &str, rows: usize, deadline: Option<Instant>) -> Result<(), Status> {
    let Some(deadline) = deadline else { return Ok(()) };
    let remaining = deadline.saturating_duration_since(Instant::now()).as_secs_f64();
    if remaining == 0.0 {
        return Err(expired(LATE));
    }
    match lane.expect(level, caller, rows) {
        Some(expected) if expected > remaining => Err(Status::refusal(
            status::RESOURCE_EXHAUSTED,
            "DEADLINE_UNREACHABLE",
            "what waits already takes longer than the deadline allows",
            Some(expected - remaining),
        )),
        _ => Ok(()),
    }
}

/// What comes of `task`; `None` if the caller of the inference went away before.
async fn while_awaited<T>(inference: &mut Inference, task: impl Future<Output = Result<T, Status>>) -> Option<Result<T, Status>> {
    let deadline = inference.head.deadline;
    tokio::select! {
        biased;
        done = task => Some(done),
        () = inference.gone() => None,
        () = passed(deadline) => Some(Err(expired(WAITED))),
    }
}

/// Return once the deadline, if there is one, has passed.
pub async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
