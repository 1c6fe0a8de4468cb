//! `pinion admin snapshot`.

use super::{BASE, Context};
use crate::failure::Failure;
use crate::http::Ask;

/// Bytes that are printed at a time; the whole may be larger than memory should be.
const PRINTED_AT_A_TIME: usize = 256 << 10;

pub(super) async fn run(context: &mut Context) -> Result<(), Failure> {
    let ask = Ask::get(&[BASE, "metadata", "snapshot"]);
    let mut stream = context.http.open(&ask).await?;
    while let Some(bytes) = stream.next().await? {
        context.printer.raw(&bytes);
        if context.printer.len() >= PRINTED_AT_A_TIME {
            context.printer.flush().await?;
        }
    }
    context.printer.raw(b"\n");
    Ok(())
}
