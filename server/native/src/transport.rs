//! Takes connections, and what is installed, until the end: each connection is a task, all on one thread.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};

use crate::allowance::{Rounds, Woken};
use crate::caught::caught;
use crate::connection::connection;
use crate::installed::{Installed, ServedModel, Version};
use crate::listening::Bound;
use crate::pipeline::Pipeline;
use crate::shared::Shared;

/// The limits of connections.
#[derive(Clone)]
pub struct Limits {
    pub max_streams: u32,
    pub max_metadata_bytes: u32,
    pub connection_age: Option<Duration>,
    pub age_grace: Duration,
    pub connection_idle: Option<Duration>,
    pub keepalive_time: Duration,
    pub keepalive_timeout: Duration,
    pub min_ping_interval: Duration,
}

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Serving,
    /// No new connection, and no new call on those there are.
    Leaving,
    Stopped,
}

/// What the thread that serves is asked to do.
pub enum Order {
    Listen(Bound),
    Install { versions: Vec<Version>, models: Vec<ServedModel>, done: Sender<Result<(), String>> },
}

/// Serve until the phase is `Stopped`. Takes the thread it is called on.
pub fn run(
    shared: Arc<Shared>,
    installed: Installed,
    limits: Limits,
    orders: UnboundedReceiver<Order>,
    phase: watch::Receiver<Phase>,
) -> std::io::Result<()> {
    let woken = Woken::new();
    let wakes = woken.clone();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(CONTROL_THREADS).on_thread_unpark(move || wakes.wakes()).build()?;
    let pipeline = Rc::new(Pipeline::new(shared, installed, Rounds::new(woken)));
    let local = LocalSet::new();
    local.block_on(&runtime, obey(pipeline.clone(), Rc::new(limits), orders, phase));
    pipeline.installed.stop();
    // The lanes end here, and with them the engines.
    drop(local);
    pipeline.installed.wait();
    Ok(())
}

async fn obey(pipeline: Rc<Pipeline>, limits: Rc<Limits>, mut orders: UnboundedReceiver<Order>, mut phase: watch::Receiver<Phase>) {
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Order::Listen(listener)) => {
                    spawn_local(accept(listener, pipeline.clone(), limits.clone(), phase.clone()));
                }
                Some(Order::Install { versions, models, done }) => {
                    let install = || pipeline.installed.install(versions, models, &pipeline.shared.counters);
                    // A defect leaves what was installed before. Whoever asked may have given up.
                    let _ = done.send(caught(install).unwrap_or_else(|| Err("what is loaded could not be installed".into())));
                }
                None => return,
            },
            changed = phase.changed() => {
                if changed.is_err() || *phase.borrow() == Phase::Stopped {
                    return;
                }
            }
        }
    }
}

/// Threads for what is no inference.
const CONTROL_THREADS: usize = 4;

async fn accept(listener: Bound, pipeline: Rc<Pipeline>, limits: Rc<Limits>, mut phase: watch::Receiver<Phase>) {
    let mut listener = match listener.into_listener() {
        Ok(listener) => Some(listener),
        Err(error) => return eprintln!("nothing is accepted: {error}"),
    };
    loop {
        let arrived = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            arrived = arrived => match arrived {
                Ok((socket, address)) => {
                    spawn_local(connection(socket, address, pipeline.clone(), limits.clone(), phase.clone()));
                }
                // Out of file descriptors, say: those who wait are asked again soon.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            changed = phase.changed() => {
                listener = None;
                if changed.is_err() || *phase.borrow() == Phase::Stopped {
                    return;
                }
            }
        }
    }
}
