//! `grpc.health.v1`: whether this node serves, which is whether its plane is ready.

use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::sync::Arc;

use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::Api;

/// Services that it knows; the empty name is the whole server.
const SERVICES: [&str; 2] = ["", "pinion.admin.v1.Admin"];

/// How often it is looked at for those who watch.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The service.
pub(crate) struct Serving {
    pub(crate) api: Arc<Api>,
}

async fn look(api: &Api) -> HealthCheckResponse {
    let status = match api.plane.status().await {
        Ok(status) if status.ready => ServingStatus::Serving,
        _ => ServingStatus::NotServing,
    };
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl Health for Serving {
    async fn check(
        &self,
        call: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !SERVICES.contains(&&*call.get_ref().service) {
            return Err(Status::not_found("there is no such service"));
        }
        Ok(Response::new(look(&self.api).await))
    }

    type WatchStream = Looks;

    async fn watch(&self, call: Request<HealthCheckRequest>) -> Result<Response<Looks>, Status> {
        let known = SERVICES.contains(&&*call.get_ref().service);
        let (sender, looks) = mpsc::channel(1);
        let api = Arc::clone(&self.api);
        tokio::spawn(async move {
            let unknown = HealthCheckResponse {
                status: ServingStatus::ServiceUnknown.into(),
            };
            let mut stopping = api.stopping.clone();
            let mut told = None;
            loop {
                let now = if known { look(&api).await } else { unknown };
                if told != Some(now) {
                    told = Some(now);
                    if sender.send(Ok(now)).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = sender.closed() => return,
                    _ = stopping.wait_for(|stop| *stop) => return,
                }
            }
        });
        Ok(Response::new(Looks(looks)))
    }
}

/// What a watch gives.
#[derive(Debug)]
pub(crate) struct Looks(mpsc::Receiver<Result<HealthCheckResponse, Status>>);

impl Stream for Looks {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}
