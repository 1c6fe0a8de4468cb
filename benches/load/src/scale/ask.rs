//! Many requests of one kind over one connection, for setting a scene.

use std::time::{Duration, Instant};

use pinion_cli::bench::measure::BenchError;
use pinion_cli::bench::target::unexpected;
use pinion_client::native::{LinkId, NativeClient, Received, SubmitError};
use pinion_wire::message::{Reply, Request};

use super::stage::Limit;

/// Requests that await their answers at once: enough to keep a node busy,
/// below what one connection may have in flight.
const IN_FLIGHT: usize = 256;

/// Submits what [`ask_all`] is asked for.
pub(super) type Submit<'s> = dyn FnMut(&Request<'_>) -> Result<u32, SubmitError> + 's;

/// Asks `count` times over `link`, and shows every answer with the index of its
/// question. `question` hands the one request of an index to the submission it
/// is given. Nothing else may be asked on `link` meanwhile; what other
/// connections of `client` receive is dropped.
pub(super) fn ask_all(
    client: &mut NativeClient,
    link: LinkId,
    count: usize,
    limit: &Limit,
    mut question: impl FnMut(usize, &mut Submit<'_>) -> Result<u32, SubmitError>,
    mut answer: impl FnMut(usize, &Reply<'_>) -> Result<(), BenchError>,
) -> Result<(), BenchError> {
    let (mut next, mut answered, mut first) = (0, 0, 0);
    while answered < count {
        while next < count && next - answered < IN_FLIGHT {
            match question(next, &mut |request| client.submit(link, request)) {
                Ok(correlation) => {
                    if next == 0 {
                        first = correlation;
                    }
                    next += 1;
                }
                Err(SubmitError::InFlight { .. } | SubmitError::Full { .. }) => break,
                Err(error) => return Err(BenchError::Native(error.into())),
            }
        }
        let now = Instant::now();
        client.flush(now)?;
        let mut fault = None;
        let moved = client.poll(now, |received| match received {
            Received::Reply {
                link: from,
                correlation,
                opcode,
                body,
            } if from == link => {
                answered += 1;
                let index = correlation.wrapping_sub(first) as usize;
                let taken = match Reply::decode(opcode, body) {
                    Ok(reply) => answer(index, &reply),
                    other => Err(unexpected("a request", &other)),
                };
                fault = fault.take().or(taken.err());
            }
            Received::Closed { link: from, .. } if from == link => {
                fault = Some(BenchError::Closed { peer: "the node" });
            }
            _ => {}
        })?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        limit.check(count - answered)?;
        if !moved {
            client.wait(Duration::from_millis(1))?;
        }
    }
    Ok(())
}
