//! `ModelInfer`, step by step: decode, route, admit, wait for a batch, encode, count. Sockets are not known here.
//!
//! All of it runs on the one thread that serves; the engine's threads only compute.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::sleep_until;

use crate::admission::{Admission, Full, RateLimits};
use crate::asking::Asking;
use crate::call::{Head, Peer};
use crate::form::Fitted;
use crate::grants::Principal;
use crate::lane::{Computed, Lane, Lost, Outcome, Submission};
use crate::observers::Traced;
use crate::python::{Functions, Metadata};
use crate::queue::{SHADOW, Ticket};
use crate::requests::{self, Request};
use crate::router::{Arm, Choice};
use crate::shared::Shared;
use crate::status::{self, Status};
use crate::transport::MODEL_STREAM_INFER;

/// Levels by the number a caller asks for in `priority`; 0 and any other number are the default, as in Triton.
const LEVELS: [usize; 4] = [1, 0, 1, 2];

const LATE: &str = "the deadline had passed when the request came";
const WAITED: &str = "the deadline passed while the request waited";

/// All inferences in flight.
pub struct Pipeline {
    pub shared: Arc<Shared>,
    admission: RefCell<Admission>,
    rates: RefCell<RateLimits>,
}

/// How far an inference came: who answers it, its rows, and how its runs went.
#[derive(Default)]
struct Seen {
    choice: Option<(Arc<Lane>, Arm)>,
    rows: usize,
    queued: Duration,
    ran: Duration,
    batch_rows: usize,
}

/// Why an inference has no answer.
enum Unanswered {
    Refused(Status),
    Gone,
}

impl From<Status> for Unanswered {
    fn from(status: Status) -> Self {
        Unanswered::Refused(status)
    }
}

/// Rows and bytes that count as waiting until this is dropped.
struct Admitted {
    pipeline: Rc<Pipeline>,
    caller: Arc<str>,
    level: usize,
    rows: usize,
    bytes: usize,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut admission = self.pipeline.admission.borrow_mut();
        admission.release(&self.caller, self.level, self.rows, self.bytes);
        self.pipeline.shared.in_flight.store(admission.requests(), Ordering::Relaxed);
    }
}

impl Pipeline {
    pub fn new(shared: Arc<Shared>) -> Self {
        let admission = Admission::new(shared.options.max_queue_rows, shared.options.max_queue_bytes);
        Pipeline { shared, admission: RefCell::new(admission), rates: RefCell::default() }
    }

    /// The answer to a `ModelInferRequest`, or why there is none; `None` if the caller went away, which `gone` tells.
    pub async fn infer(
        self: &Rc<Self>,
        head: &Head,
        peer: &Arc<Peer>,
        data: Bytes,
        gone: impl Future<Output = ()>,
    ) -> Option<Result<Bytes, Status>> {
        let begun = Instant::now();
        let mut seen = Seen::default();
        let answer = match self.try_infer(head, peer, data, begun, gone, &mut seen).await {
            Ok(answer) => Some(Ok(answer)),
            Err(Unanswered::Refused(status)) => Some(Err(status)),
            Err(Unanswered::Gone) => None,
        };
        self.count(head, answer.as_ref().map(|answer| answer.as_ref().map(|_| ())), &seen, begun);
        answer
    }

    async fn try_infer(
        self: &Rc<Self>,
        head: &Head,
        peer: &Arc<Peer>,
        data: Bytes,
        begun: Instant,
        gone: impl Future<Output = ()>,
        seen: &mut Seen,
    ) -> Result<Bytes, Unanswered> {
        if self.shared.closed.load(Ordering::Relaxed) {
            return Err(draining().into());
        }
        if head.deadline.is_some_and(|deadline| deadline <= begun) {
            return Err(expired(LATE).into());
        }
        tokio::pin!(gone);
        let asking = Asking { shared: &self.shared, head, peer, bytes: data.len() };
        let known = while_awaited(asking.identify(), &mut gone, head.deadline).await?;
        let principal = &known.principal;
        let Ok(mut request) = requests::decode(data.clone()) else {
            return Err(self.explain(data).await.into());
        };
        while_awaited(asking.permit(&known, &request.model), &mut gone, head.deadline).await?;
        let caller: Arc<str> = if principal.name.is_empty() { peer.address.clone() } else { principal.name.clone() };
        if request.id.is_empty() {
            request.id = self.shared.new_id();
        }
        loop {
            let (choice, fitted) = self.choose(&mut request, &data, seen).await?;
            let level = LEVELS.get(usize::try_from(request.parameters.priority).unwrap_or(0)).copied().unwrap_or(LEVELS[0]);
            let deadline = deadline(head, begun, request.parameters.timeout);
            self.limit(principal, &caller, fitted.rows)?;
            check_deadline(&choice.lane, level, &caller, fitted.rows, deadline)?;
            let admitted = self.admit(caller.clone(), level, fitted.rows, request.size)?;
            let ticket = Ticket { rows: fitted.rows, level, caller: caller.clone(), shape: shape(&fitted) };
            let wanted = fitted.wanted.clone();
            let submitted = Submission { ticket, fitted, deadline, id: request.id.clone(), arm: choice.arm, since: Instant::now() };
            let Ok((number, outcome)) = choice.lane.submit(submitted) else {
                // Unloaded in between: the table has the version that took its place, unless all ends.
                if self.shared.closed.load(Ordering::Relaxed) {
                    return Err(draining().into());
                }
                let id = request.id;
                request = requests::decode(data.clone()).map_err(|_| draining())?;
                request.id = id;
                continue;
            };
            let outcome = tokio::select! {
                biased;
                outcome = outcome => outcome.unwrap_or_else(|_| Err(Lost::Failed("the daemon is shutting down".into()))),
                () = &mut gone => {
                    choice.lane.give_up(number);
                    return Err(Unanswered::Gone);
                }
                () = passed(deadline) => {
                    choice.lane.give_up(number);
                    Err(Lost::Expired)
                }
            };
            drop(admitted);
            let answer = answer(&request, &choice, &wanted, outcome, seen)?;
            for shadow in choice.shadows {
                tokio::task::spawn_local(self.clone().copy(shadow, request.id.clone(), data.clone()));
            }
            return Ok(answer);
        }
    }

    /// The version that answers, and the request as it takes it.
    async fn choose(&self, request: &mut Request, data: &Bytes, seen: &mut Seen) -> Result<(Choice, Fitted), Status> {
        let key = if request.parameters.routing_key.is_empty() { &request.id } else { &request.parameters.routing_key };
        let Some(choice) = self.shared.table().pick(&request.model, &request.label, key) else {
            return Err(self.explain(data.clone()).await);
        };
        seen.choice = Some((choice.lane.clone(), choice.arm));
        let Ok(fitted) = choice.lane.form.fit(request) else {
            return Err(self.explain(data.clone()).await);
        };
        seen.rows = fitted.rows;
        Ok((choice, fitted))
    }

    /// Let a shadow compute what a caller has the answer to already; given up wherever anything would have to wait for it.
    async fn copy(self: Rc<Self>, shadow: Arc<Lane>, id: Bytes, data: Bytes) {
        let begun = Instant::now();
        let caller: Arc<str> = Arm::Shadow.name().into();
        let Ok(mut request) = requests::decode(data) else { return };
        let size = request.size;
        let refused = match shadow.form.fit(&mut request) {
            Err(_) => Some(Status::refusal(3, "INPUT_MISMATCH", "", None)),
            Ok(fitted) => match self.admit(caller.clone(), SHADOW, fitted.rows, size) {
                Err(status) => Some(status),
                Ok(admitted) => {
                    let ticket = Ticket { rows: fitted.rows, level: SHADOW, caller, shape: shape(&fitted) };
                    let submitted = Submission { ticket, fitted, deadline: None, id, arm: Arm::Shadow, since: begun };
                    let Ok((_, outcome)) = shadow.submit(submitted) else { return };
                    let outcome = outcome.await;
                    drop(admitted);
                    match outcome {
                        Ok(Ok(_)) => None,
                        _ => Some(Status::refusal(status::INTERNAL, "MODEL_FAILED", "", None)),
                    }
                }
            },
        };
        self.shared.counters.answered(&shadow.model, shadow.version, Arm::Shadow, refused.as_ref(), begun.elapsed());
    }

    /// Count an inference that is over, and tell who traces; `answer` is `None` if the caller went away.
    fn count(&self, head: &Head, answer: Option<Result<(), &Status>>, seen: &Seen, begun: Instant) {
        let counters = &self.shared.counters;
        let gone = Status::plain(status::CANCELLED, "");
        let refused = match answer {
            Some(Ok(())) => None,
            Some(Err(status)) => Some(status),
            None => Some(&gone),
        };
        if let Some(Err(status)) = answer {
            counters.rejected(seen.choice.as_ref().map_or("", |(lane, _)| &lane.model), &status.reason);
        }
        match (&seen.choice, refused) {
            (Some((lane, arm)), refused) => counters.answered(&lane.model, lane.version, *arm, refused, begun.elapsed()),
            (None, Some(status)) => counters.unrouted(status),
            (None, None) => {}
        }
        if self.shared.observers.wants_calls() {
            self.shared.observers.call(Traced {
                metadata: metadata(head),
                model: seen.choice.as_ref().map_or_else(String::new, |(lane, _)| lane.model.clone()),
                version: seen.choice.as_ref().map_or(0, |(lane, _)| lane.version),
                arm: seen.choice.as_ref().map_or("", |(_, arm)| arm.name()),
                code: refused.map_or("OK", |status| status.name),
                rows: if seen.batch_rows > 0 || answer.is_none() { seen.rows } else { 0 },
                began: begun,
                took: begun.elapsed(),
                queued: seen.queued,
                ran: seen.ran,
                batch_rows: seen.batch_rows,
            });
        }
    }

    async fn explain(&self, data: Bytes) -> Status {
        self.on_python(move |functions| functions.explain(&data)).await.unwrap_or_else(Status::defect)
    }

    /// What Python says, on a thread that may wait for it; `None` if that failed.
    async fn on_python<T: Send + 'static>(&self, ask: impl FnOnce(&Functions) -> T + Send + 'static) -> Option<T> {
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || ask(&shared.functions)).await.ok()
    }

    /// Have Python answer a call that is no inference; nothing else waits for it.
    pub async fn ask(&self, head: &Head, peer: Arc<Peer>, message: Bytes) -> Result<Bytes, Status> {
        let (path, metadata) = (head.path.clone(), metadata(head));
        let called = self.on_python(move |functions| functions.call(&path, &message, metadata, &peer)).await;
        called.unwrap_or_else(|| Err(Status::defect()))
    }

    /// The names in the certificate that a client was verified by.
    pub async fn names(&self, certificate: Vec<u8>) -> Vec<String> {
        self.on_python(move |functions| functions.names(&certificate)).await.unwrap_or_default()
    }

    /// Refuse an inference whose caller has given up before its message was there.
    pub fn late(&self, head: &Head) -> Status {
        let status = expired(LATE);
        self.count(head, Some(Err(&status)), &Seen::default(), Instant::now());
        status
    }

    /// Whether a stream may begin.
    pub async fn may_begin(&self, head: &Head, peer: &Arc<Peer>) -> Result<(), Status> {
        if !self.shared.authenticated {
            return Ok(());
        }
        Asking { shared: &self.shared, head, peer, bytes: 0 }.admit(head.path == MODEL_STREAM_INFER).await
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

    fn admit(self: &Rc<Self>, caller: Arc<str>, level: usize, rows: usize, bytes: usize) -> Result<Admitted, Status> {
        let mut admission = self.admission.borrow_mut();
        admission.admit(&caller, level, rows, bytes).map_err(|full| {
            let text = match full {
                Full::Daemon => "as much waits as may: try again later",
                Full::Caller => "as much of this caller waits as may: try again later",
            };
            Status::refusal(status::RESOURCE_EXHAUSTED, "QUEUE_FULL", text, Some(0.1))
        })?;
        self.shared.in_flight.store(admission.requests(), Ordering::Relaxed);
        Ok(Admitted { pipeline: self.clone(), caller, level, rows, bytes })
    }
}

fn answer(request: &Request, choice: &Choice, wanted: &[usize], outcome: Outcome, seen: &mut Seen) -> Result<Bytes, Status> {
    match outcome {
        Ok(computed) => {
            (seen.queued, seen.ran, seen.batch_rows) = (computed.queued, computed.ran, computed.batch_rows);
            let timing = request.parameters.timing.then(|| timing(&computed));
            let form = &choice.lane.form;
            Ok(form.encode(&request.id, request.raw, wanted, &computed.parts, timing.as_deref()))
        }
        Err(Lost::Failed(text)) => Err(Status::refusal(status::INTERNAL, "MODEL_FAILED", &text, None)),
        Err(Lost::Expired) => Err(expired(WAITED)),
    }
}

/// The metadata of a call as Python has it.
pub fn metadata(head: &Head) -> Metadata {
    head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

fn draining() -> Status {
    Status::refusal(status::UNAVAILABLE, "DRAINING", "the daemon is shutting down", Some(1.0))
}

fn expired(text: &str) -> Status {
    Status::refusal(status::DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", text, None)
}

fn deadline(head: &Head, begun: Instant, timeout: u64) -> Option<Instant> {
    let own = if timeout > 0 { begun.checked_add(Duration::from_micros(timeout)) } else { None };
    match (head.deadline, own) {
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

/// The outcome of `step`, unless the caller goes away or its deadline passes before.
async fn while_awaited<T>(
    step: impl Future<Output = Result<T, Status>>,
    gone: impl Future<Output = ()>,
    deadline: Option<Instant>,
) -> Result<T, Unanswered> {
    tokio::select! {
        biased;
        done = step => Ok(done?),
        () = gone => Err(Unanswered::Gone),
        () = passed(deadline) => Err(expired(WAITED).into()),
    }
}

/// Return once the deadline, if there is one, has passed.
pub async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn shape(fitted: &Fitted) -> Vec<usize> {
    let sizes = fitted.inputs.iter().flat_map(|input| input.shape.iter().skip(1).copied());
    sizes.chain([usize::MAX]).chain(fitted.wanted.iter().copied()).collect()
}

fn timing(computed: &Computed) -> String {
    format!(
        "{{\"batch_rows\": {}, \"compute_seconds\": {:?}, \"queue_seconds\": {:?}}}",
        computed.batch_rows,
        computed.ran.as_secs_f64(),
        computed.queued.as_secs_f64()
    )
}
