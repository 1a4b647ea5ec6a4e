//! The parameters of a request that are acted on: see `server/grpcio_transport/parameters.py`. Other ones are let pass.

use bytes::Bytes;

use crate::wire::{self, Malformed, Value};

/// The parameter by which a caller asks for the timing of its answer, and that carries it.
pub const TIMING: &[u8] = b"tidegate_timing";
const ROUTING_KEY: &[u8] = b"tidegate_routing_key";
const PREFIX: &[u8] = b"tidegate_";

/// What a caller asked for besides its answer. `timeout` is in microseconds, 0 for none.
#[derive(Debug, Default)]
pub struct Parameters {
    pub priority: u64,
    pub timeout: u64,
    pub routing_key: Bytes,
    pub timing: bool,
}

/// What a parameter is set to.
#[derive(Default)]
pub enum Choice {
    #[default]
    Unset,
    Flag(bool),
    Signed(u64),
    Text(Bytes),
    Real,
    Unsigned(u64),
}

impl Choice {
    fn whole(self) -> Result<u64, Malformed> {
        match self {
            Choice::Signed(number) if i64::try_from(number).is_ok() => Ok(number),
            Choice::Unsigned(number) => Ok(number),
            _ => Err(Malformed),
        }
    }
}

/// The key of a parameter, and what it is set to.
type Entry = (Bytes, Choice);

/// An entry of a map of parameters; `depth` is how many messages are around it.
///
/// `None` if it has a field that nobody knows: the parser of the reference takes such an entry for a field that nobody knows itself.
pub fn read_entry(mut message: Bytes, depth: usize) -> Result<Option<Entry>, Malformed> {
    let (mut key, mut choice, mut is_known) = (Bytes::new(), Choice::Unset, true);
    while let Some(field) = wire::field(&mut message, depth)? {
        match field {
            (1, Value::Bytes(text)) => key = wire::text(text)?,
            (2, Value::Bytes(parameter)) => read_choice(parameter, depth + 1, &mut choice)?,
            _ => is_known = false,
        }
    }
    Ok(is_known.then_some((key, choice)))
}

fn read_choice(mut parameter: Bytes, depth: usize, choice: &mut Choice) -> Result<(), Malformed> {
    while let Some(field) = wire::field(&mut parameter, depth)? {
        *choice = match field {
            (1, Value::Varint(number)) => Choice::Flag(number != 0),
            (2, Value::Varint(number)) => Choice::Signed(number),
            (3, Value::Bytes(text)) => Choice::Text(wire::text(text)?),
            (4, Value::Fixed64(_)) => Choice::Real,
            (5, Value::Varint(number)) => Choice::Unsigned(number),
            _ => continue,
        };
    }
    Ok(())
}

/// The parameters that are acted on: of several entries with one key the last one counts.
#[derive(Default)]
pub struct Given {
    priority: Option<Choice>,
    timeout: Option<Choice>,
    routing_key: Option<Choice>,
    timing: Option<Choice>,
}

impl Given {
    /// `None` is one that nobody knows.
    pub fn add(&mut self, entry: Option<Entry>) -> Result<(), Malformed> {
        let Some((key, choice)) = entry else { return Ok(()) };
        match &key[..] {
            b"priority" => self.priority = Some(choice),
            b"timeout" => self.timeout = Some(choice),
            ROUTING_KEY => self.routing_key = Some(choice),
            TIMING => self.timing = Some(choice),
            key if key.starts_with(PREFIX) => return Err(Malformed),
            _ => {}
        }
        Ok(())
    }

    /// What they ask for.
    pub fn parameters(self) -> Result<Parameters, Malformed> {
        Ok(Parameters {
            priority: self.priority.map_or(Ok(0), Choice::whole)?,
            timeout: self.timeout.map_or(Ok(0), Choice::whole)?,
            routing_key: match self.routing_key {
                None => Bytes::new(),
                Some(Choice::Text(text)) => text,
                Some(_) => return Err(Malformed),
            },
            timing: match self.timing {
                None => false,
                Some(Choice::Flag(flag)) => flag,
                Some(_) => return Err(Malformed),
            },
        })
    }
}
