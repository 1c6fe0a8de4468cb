//! `/api/v1/sessions`

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Part, Stand};
use crate::call::{Call, Reply, bad_parameter, json};
use crate::views::act::{self, By};
use crate::views::sessions::{self, SessionId, SessionRow};

/// Who is connected to the node that answers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Sessions {
    sessions: Vec<SessionRow>,
    #[serde(flatten)]
    part: Part,
    #[serde(flatten)]
    stand: Stand,
}

/// What was ended.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct SessionEnded {
    session_id: String,
}

pub(crate) async fn list(call: Call) -> Reply {
    let paging = call.paging()?;
    let which = (call.param("realm"), call.search("q")?);
    let listed = sessions::list(&call.api, &call.who, which, paging).await?;
    let answer = Sessions {
        part: Part::of(&listed, paging),
        stand: Stand::of(&call.api, listed.as_of, &[], &["*"]),
        sessions: listed.rows,
    };
    json(StatusCode::OK, &answer)
}

pub(crate) async fn close(call: Call) -> Reply {
    let id = SessionId::parse(call.part("s"));
    let id = id.ok_or_else(|| bad_parameter("session", "CORE.NUMBER is expected"))?;
    let by = By {
        who: &call.who,
        request: call.number,
        confirmed: true,
    };
    act::close_session(&call.api, by, id).await?;
    closed(id)
}

/// That something of a session was ended.
pub(super) fn closed(id: SessionId) -> Reply {
    let ended = SessionEnded {
        session_id: id.to_string(),
    };
    json(StatusCode::OK, &ended)
}
