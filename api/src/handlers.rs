//! The handlers: each extracts, makes one call into the domain and answers.

pub mod events;
pub mod health;
pub mod jwks;
mod length;
pub mod login;
pub mod logout;
pub mod password;
pub mod protected;
pub mod refresh;
pub mod register;
pub mod rooms;
pub mod server_metadata;
mod session_response;
pub mod sessions;
pub mod ws_ticket;

pub use self::{
    events::events,
    health::{health, ready},
    jwks::jwks,
    login::login,
    logout::logout,
    password::password,
    protected::protected,
    refresh::refresh,
    register::register,
    rooms::{presence, publish},
    server_metadata::server_metadata,
    sessions::{end_session, logout_all, sessions},
    ws_ticket::ws_ticket,
};
