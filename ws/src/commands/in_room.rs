//! What is about a room: `join`, `leave`, `publish`, `typing`, `presence`. What can be refused without asking anybody is
//! refused here; the hub does the rest.

use std::sync::Arc;

use gatefold_shared::{
    jwt::{AccessToken, Subject},
    portable_json,
    rooms::{self, Claim, RoomName, User},
};

use super::Caller;
use crate::{
    hub::{Busy, Join, Pending, Request, What},
    protocol::{ErrorCode, RoomRequest},
};

pub(super) fn pass_on(
    room: &str,
    request: RoomRequest<'_>,
    token: &AccessToken,
    caller: &Caller<'_>,
) -> Result<(), ErrorCode> {
    let room = RoomName::parse(room).ok_or(ErrorCode::InvalidRoom)?;
    let (kind, mut is_new) = (request.label(), false);
    let budgets = &caller.app.budgets;
    let is_in = || caller.peer.is_in(&room).then_some(()).ok_or(ErrorCode::NotJoined);
    let what = match request {
        RoomRequest::Join { since } => {
            let grantee = grantee(token, &room)?;
            budgets.take_look(token.user_id).map_err(ErrorCode::over_budget)?;
            is_new = caller.peer.joins(&room).map_err(|_| ErrorCode::TooManyRooms)?;
            What::Join(Join { since, grantee })
        }
        RoomRequest::Leave => {
            is_in()?;
            What::Leave
        }
        RoomRequest::Publish { data } => {
            is_in()?;
            portable_json::check(data).map_err(|_| ErrorCode::InvalidData)?;
            budgets.take_publish(token.user_id, data.get().len()).map_err(ErrorCode::over_budget)?;
            What::Publish { data: data.to_owned() }
        }
        RoomRequest::Typing { typing } => {
            is_in()?;
            What::Typing { typing }
        }
        RoomRequest::Presence => {
            let grantee = grantee(token, &room)?;
            budgets.take_look(token.user_id).map_err(ErrorCode::over_budget)?;
            What::Presence { grantee }
        }
    };
    let user = User { id: token.user_id, username: Arc::clone(&token.username) };
    let pending = Pending::new(kind, caller.id.cloned(), caller.peer.id);
    let request = Request { room, peer: Arc::clone(caller.peer), user, pending, what };
    caller.app.hub.pass_on(request).map_err(|Busy(request)| {
        if is_new {
            request.peer.leaves(&request.room);
        }
        request.pending.ends("unavailable");
        ErrorCode::Unavailable
    })
}

/// Of whom Redis has to be asked if they may still enter, where their token lets them and does not suffice.
fn grantee(token: &AccessToken, room: &RoomName) -> Result<Option<Subject>, ErrorCode> {
    match rooms::claimed(token, room) {
        Claim::Allowed => Ok(None),
        Claim::AskRedis => Ok(Some(token.subject())),
        Claim::Refused => Err(ErrorCode::ForbiddenRoom),
    }
}
