//! For tests: messages that come over a connection in pieces cut anywhere are those that were sent.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::activity::Activity;
use crate::call::{Messages, Refused};
use crate::encoding::seeded;
use crate::kept::{Account, Store};

const MAX_BYTES: usize = 150;

fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    messages.iter().flat_map(|message| [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat()).collect()
}

/// The bytes in pieces that end at `cuts`.
fn pieces(bytes: &[u8], cuts: &[usize]) -> Vec<Bytes> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
    places.sort_unstable();
    places.windows(2).map(|window| Bytes::copy_from_slice(&bytes[window[0]..window[1]])).collect()
}

/// The messages that are read of a call whose body comes in these pieces, and whether it ended well.
async fn received(pieces: Vec<Bytes>) -> (Vec<Vec<u8>>, bool) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let send = async move {
        let (mut client, connection) = h2::client::handshake(near).await.expect("a connection");
        let (_response, mut body) = client.send_request(Request::new(()), false).expect("a call");
        for piece in pieces {
            body.send_data(piece, false).expect("room");
        }
        body.send_data(Bytes::new(), true).expect("room");
        // Over once the other side is gone.
        let _ = connection.await;
    };
    let receive = async move {
        let mut connection = h2::server::handshake(far).await.expect("a connection");
        let (request, _respond) = connection.accept().await.expect("a call").expect("a call");
        let activity = Activity::new(Duration::from_secs(10), Account::new(Store::new(usize::MAX)));
        let mut messages = Messages::new(request.into_body(), &HeaderMap::new(), MAX_BYTES, activity);
        let read = async {
            let mut found = Vec::new();
            loop {
                match messages.next().await {
                    Ok(Some(message)) => found.push(message.to_vec()),
                    Ok(None) => return (found, true),
                    Err(Refused::With(_)) => return (found, false),
                    Err(Refused::Gone) => panic!("the caller is there"),
                }
            }
        };
        tokio::select! {
            found = read => found,
            _ = connection.accept() => panic!("the connection is there"),
        }
    };
    tokio::select! {
        found = receive => found,
        () = send => panic!("the daemon is there"),
    }
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn messages_cut_anywhere_are_read_whole(
        messages in vec(vec(any::<u8>(), 0..MAX_BYTES + 10), 0..6), cuts in vec(any::<usize>(), 0..12), short in proptest::option::of(any::<usize>())
    ) {
        let mut bytes = framed(&messages);
        let whole = bytes.len();
        bytes.truncate(short.map_or(whole, |short| short % (whole + 1)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (found, ended_well) = runtime.block_on(received(pieces(&bytes, &cuts)));

        // All that are there, up to one that is too long.
        let mut end = 0;
        let expected: Vec<Vec<u8>> = messages.iter().take_while(|message| {
            end += 5 + message.len();
            message.len() <= MAX_BYTES && end <= bytes.len()
        }).cloned().collect();
        prop_assert_eq!(ended_well, framed(&expected).len() == bytes.len());
        prop_assert_eq!(found, expected);
    }
}
