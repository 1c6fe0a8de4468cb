//! `/v1/backup`

use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use pinion_plane::{Caller, Denied, PlaneError};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::backup::BackupRefused;
use crate::call::{Call, Reply};
use crate::error::Failure;
use crate::limits::{PLANE_WAIT, UNREAD_WAIT};
use crate::rest::metadata::long_body;

/// What is to be in a backup.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackupRequest {
    /// Keys and tokens of the node, too: who has the archive can then pass for the node.
    #[serde(default)]
    secrets: bool,
}

/// `POST /v1/backup`: everything that the node has, as one archive. That holds the data of
/// every tenant, which is why its route asks whether it is meant.
pub(crate) async fn begin(call: Call) -> Reply {
    let wanted: BackupRequest = call.body()?;
    let begun = call.api.backup.begin(wanted.secrets).await.map_err(refused);
    let status = begun
        .as_ref()
        .map_or_else(|failure| failure.status, |_| StatusCode::OK);
    // It is no command of the metadata, so its row is durable here before a byte leaves,
    // and what cannot be recorded is given up.
    let with = if wanted.secrets { " with secrets" } else { "" };
    let row = Denied {
        caller: Caller {
            principal: call.who.principal.clone(),
            request: call.number,
            remote: call.who.remote,
        },
        tenant: Box::default(),
        operation: "backup".into(),
        target: format!("node/{}{with}", call.api.node).into(),
        status: status.as_u16(),
    };
    call.api.plane.record(row, PLANE_WAIT).await?;
    let backup = begun?;
    let (pieces, body) = long_body();
    tokio::spawn(pass(backup.pieces, pieces, call.api.stopping.clone()));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(backup.bytes));
    let name = format!("attachment; filename=\"{}\"", backup.name);
    if let Ok(name) = HeaderValue::try_from(name) {
        headers.insert(CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// Passes on what is made until the client goes or stops reading, the backup ends, or the
/// API does. Whoever makes it learns of an early end by nobody taking any more.
async fn pass(
    mut from: mpsc::Receiver<Bytes>,
    to: mpsc::Sender<Bytes>,
    mut stopping: watch::Receiver<bool>,
) {
    let passing = async {
        while let Some(piece) = from.recv().await {
            match timeout(UNREAD_WAIT, to.send(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    };
    tokio::select! {
        () = passing => {}
        () = to.closed() => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
}

fn refused(refused: BackupRefused) -> Failure {
    match refused {
        BackupRefused::Busy => Failure::new(
            StatusCode::CONFLICT,
            "backup_pending",
            "a backup of this node is being made: one at a time",
        ),
        BackupRefused::NotReady => PlaneError::NotReady.into(),
        BackupRefused::Failed(why) => {
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, "backup_failed", why)
        }
    }
}
