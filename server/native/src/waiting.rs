//! Who waits for a batch: a caller, or a shadow's copy that nobody waits for.

use std::rc::Rc;
use std::time::Instant;

use crate::admission::Admitted;
use crate::inference::{Inference, Timing};
use crate::jobs::{Lost, Outcome, Waiter};
use crate::lane::Lane;
use crate::pipeline::expired;
use crate::requests::Request;
use crate::router::Arm;
use crate::status::{self, Status};

/// A caller's inference that is admitted.
pub struct Waiting {
    pub inference: Inference,
    pub request: Request,
    pub wanted: Vec<usize>,
    pub admitted: Admitted,
}

impl Waiter for Waiting {
    fn is_gone(&mut self) -> bool {
        self.inference.is_unwanted()
    }

    fn end(self, outcome: Outcome) {
        let Waiting { mut inference, request, wanted, admitted } = self;
        drop(admitted);
        match outcome {
            Ok(computed) => {
                inference.ran = Timing { queued: computed.queued, ran: computed.ran, batch_rows: computed.batch_rows };
                let timing = request.parameters.timing.then(|| written(inference.ran));
                let Some(choice) = inference.choice.take() else { return };
                inference.choice = Some(choice.clone());
                inference.answer(|answer| {
                    choice.lane.form.encode(answer, &request.id, request.raw, &wanted, &computed.parts, timing.as_deref());
                });
                for shadow in choice.shadows {
                    inference.pipeline.copy(shadow, request.id.clone(), inference.data.clone());
                }
            }
            Err(Lost::Gone) => inference.leave(),
            Err(Lost::Expired) => inference.refuse(expired("the deadline passed while the request waited")),
            Err(Lost::Failed(text)) => inference.refuse(Status::refusal(status::INTERNAL, "MODEL_FAILED", &text, None)),
        }
    }
}

fn written(timing: Timing) -> String {
    format!(
        "{{\"batch_rows\": {}, \"compute_seconds\": {:?}, \"queue_seconds\": {:?}}}",
        timing.batch_rows,
        timing.ran.as_secs_f64(),
        timing.queued.as_secs_f64()
    )
}

/// A copy of a request, for a version that shadows the one that answered.
pub struct Shadowing {
    pub lane: Rc<Lane>,
    pub begun: Instant,
    pub admitted: Admitted,
}

impl Waiter for Shadowing {
    fn is_gone(&mut self) -> bool {
        false
    }

    fn end(self, outcome: Outcome) {
        drop(self.admitted);
        let code = if outcome.is_ok() { status::OK } else { status::INTERNAL };
        self.lane.counters.answered(Arm::Shadow, code, self.begun.elapsed());
    }
}
