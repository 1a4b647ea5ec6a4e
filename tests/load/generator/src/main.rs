//! Puts load on a gRPC server and prints, as one line of JSON, what became of it. `arguments` says what it can be asked.
//!
//! It is written to cost little for each request: frames are made once and copied, answers are read as far as their status, and everything
//! happens on one thread, so that what it cannot do is what its core cannot do.

mod arguments;
mod connection;
mod frames;
mod histogram;
mod hpack;
mod outcome;
mod peers;
mod run;
mod schedule;
mod socket;

use std::num::NonZero;
use std::process::ExitCode;

use arguments::{Arguments, Kind};
use connection::Request;
use frames::{Blocks, Call, Template};
use peers::{Peer, Peers};
use run::Run;
use socket::Socket;

type Fault = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(outcome) => {
            println!("{outcome}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: impl Iterator<Item = String>) -> Result<String, Fault> {
    let arguments = Arguments::parse(words)?;
    // Without this the kernel may wake us 50 microseconds late, as it does with whoever does not ask.
    rustix::thread::set_current_timer_slack(NonZero::new(1))?;
    let requests = requests(&arguments, &std::fs::read(&arguments.messages)?)?;
    let peers = connected(&arguments, &requests)?;
    match arguments.kind {
        Kind::Closed { in_flight, warm_up } => Run::new(arguments, requests, peers).closed(in_flight, warm_up),
        Kind::Open { rate, deadline } => Run::new(arguments, requests, peers).open(rate, deadline),
    }
}

fn requests(arguments: &Arguments, messages: &[u8]) -> Result<Vec<Request>, Fault> {
    let call = Call {
        scheme: if arguments.authorities.is_some() { "https" } else { "http" },
        authority: &arguments.address,
        path: &arguments.path,
        has_timeout: matches!(arguments.kind, Kind::Open { .. }),
    };
    let (indexed, literal) = (call.indexed(), call.literal());
    let made = |blocks: &Blocks, body: &[u8]| [Template::new(&blocks.first, body), Template::new(&blocks.next, body)];
    let bodies = split(messages).ok_or("not messages with gRPC's heads")?;
    Ok(bodies
        .into_iter()
        .map(|body| Request { indexed: made(&indexed, body), literal: made(&literal, body), body: body.len() as i64 })
        .collect())
}

/// The messages of a file, each with its head.
fn split(mut messages: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !messages.is_empty() {
        let length = u32::from_be_bytes(messages.get(1..5)?.try_into().ok()?) as usize;
        let (body, rest) = messages.split_at_checked(5 + length)?;
        found.push(body);
        messages = rest;
    }
    (!found.is_empty()).then_some(found)
}

fn connected(arguments: &Arguments, requests: &[Request]) -> Result<Peers, Fault> {
    let tls = arguments.authorities.as_deref().map(socket::trusting).transpose()?;
    let mut peers = Vec::new();
    for _ in 0..arguments.connections {
        let peer = Peer::new(Socket::connect(&arguments.address, tls.as_ref())?, arguments.bodies > 0)?;
        if let Some(request) = requests.iter().find(|request| !peer.connection.fits(request)) {
            return Err(format!("a request of {} bytes does not fit the server's first window", request.body).into());
        }
        peers.push(peer);
    }
    Peers::new(peers, arguments.is_attended)
}
