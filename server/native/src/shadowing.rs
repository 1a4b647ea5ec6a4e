//! A copy of a request, for a version that shadows the one that answered: counted, and waited for by nobody.

use std::rc::Rc;
use std::time::Instant;

use crate::admission::Admitted;
use crate::jobs::{Outcome, Waiter};
use crate::lane::Lane;
use crate::router::Arm;
use crate::status;

pub struct Shadowing {
    pub lane: Rc<Lane>,
    pub begun: Instant,
    pub admitted: Admitted,
}

impl Waiter for Shadowing {
    fn is_gone(&mut self) -> bool {
        false
    }

    fn end(self: Box<Self>, outcome: Outcome) {
        drop(self.admitted);
        let code = if outcome.is_ok() { status::OK } else { status::INTERNAL };
        self.lane.counters.answered(Arm::Shadow, code, self.begun.elapsed());
    }
}
